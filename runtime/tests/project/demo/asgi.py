"""The project's ASGI application: Django's for requests, and a websocket that repeats what it is told."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")
pages = get_asgi_application()


async def application(scope, receive, send):
    """Answer a request, or a websocket."""
    if scope["type"] != "websocket":
        await pages(scope, receive, send)
        return
    while True:
        message = await receive()
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif message["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": f"{os.getpid()} {message['text']}"})
        else:
            return
