"""``gunicorn celeriac.web.asgi:application``: the project's ASGI application, wrapped as that of WSGI.

Every response names its release in ``X-Release``, that to the handshake of a websocket, too; ``/-/celeriac/…`` is
answered here (`celeriac.web.health`), and all else is the project's. How many requests it has at a time, how long each
may stand still, and how a process ends, is in `celeriac.web.server`.
"""

from functools import partial

from asgiref.sync import ThreadSensitiveContext
from asgiref.wsgi import WsgiToAsgi

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

    if scope["type"] == "http" and scope["path"].startswith(health.PREFIX):
        # In a thread of its own, as Django gives each request one.
        async with ThreadSensitiveContext():
            await _health(scope, receive, sent)
    else:
        await project(scope, receive, sent)


if readiness.wanted():
    readiness.check(application)
