"""``gunicorn celeriac.web.asgi:application``: the project's ASGI application, wrapped as that of WSGI.

Every response names its release in ``X-Release``, that to the handshake of a websocket, too; ``/-/celeriac/…`` is
answered here (`celeriac.web.health`), and all else is the project's. How many requests it has at a time, how long each
may stand still, and how a process ends, is in `celeriac.web.server`.

A request has a thread of its own for all that is not asynchronous, its connections to databases among it, and both end
with it. Django ends the thread alone: what `CONN_MAX_AGE` lets live is reached by nobody any more, and open until the
garbage collector comes by. (https://docs.djangoproject.com/en/5.2/ref/databases/#persistent-connections)
"""

from functools import partial

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from asgiref.wsgi import WsgiToAsgi
from django.db import connections

from celeriac.project import ASGIApplication, Message, Receive, Send, asgi_application, release
from celeriac.web import health, readiness
from celeriac.web.loading import load

RELEASE_HEADER = b"x-release"
# What begins an answer (https://asgi.readthedocs.io/en/stable/specs/www.html).
HEADS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})

app, project = load(asgi_application)
_health: ASGIApplication = WsgiToAsgi(partial(health.answer, app))  # type: ignore[no-untyped-call]


async def application(scope: Message, receive: Receive, send: Send) -> None:
    """Answer one request, or one websocket, or say how the project begins and ends."""
    if scope["type"] not in ("http", "websocket"):
        await project(scope, receive, send)
        return

    async def sent(message: Message) -> None:
        if message["type"] in HEADS:
            others = [header for header in message.get("headers") or () if header[0].lower() != RELEASE_HEADER]
            message = {**message, "headers": [*others, (RELEASE_HEADER, release().encode())]}
        await send(message)

    if scope["type"] == "websocket":
        await project(scope, receive, sent)
        return
    answer = _health if scope["path"].startswith(health.PREFIX) else project
    async with ThreadSensitiveContext():  # Django's own, in this one, is this one
        try:
            await answer(scope, receive, sent)
        finally:
            await sync_to_async(connections.close_all)()


if readiness.wanted():
    readiness.check(application)
