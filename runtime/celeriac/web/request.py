"""One request to an application from within its process, as it would come through nginx."""

import asyncio
import io
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote_to_bytes
from wsgiref.util import setup_testing_defaults

from asgiref.sync import iscoroutinefunction

from celeriac.project import ASGIApplication, Message
from celeriac.web import overdue

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment


def get(application: "WSGIApplication | ASGIApplication", path: str, host: str) -> tuple[str, bytes]:
    """GET a page as somebody who is not logged in; of an ASGI application in an event loop of its own.

    Args:
        application: as gunicorn would call it.
        path: with a query, if there is one, such as ``/health/``.
        host: name of the site.

    Returns:
        Status line and body, such as ``200 OK`` and ``b"…"``; the status is empty where the
        application gave none.
    """
    if iscoroutinefunction(application):
        return asyncio.run(asked(cast("ASGIApplication", application), path, host))
    return _called(cast("WSGIApplication", application), path, host)


async def asked(application: ASGIApplication, path: str, host: str) -> tuple[str, bytes]:
    """GET a page of an ASGI application; see `get`."""
    answer: list[Message] = []
    never, request = asyncio.Event(), [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if not request:
            await never.wait()  # nobody goes away
        return request.pop()

    async def send(message: Message) -> None:
        answer.append(message)

    await application(_scope(path, host), receive, send)
    codes = [message["status"] for message in answer if message["type"] == "http.response.start"]
    body = b"".join(message.get("body", b"") for message in answer if message["type"] == "http.response.body")
    return (f"{codes[-1]} {HTTPStatus(codes[-1]).phrase}" if codes else ""), body


def _scope(path: str, host: str) -> Message:
    """Return a request as it comes through nginx, which has taken the TLS off."""
    plain, _, query = path.partition("?")
    headers = {
        "host": host,
        "user-agent": "celeriac",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "https",
    }
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": unquote_to_bytes(plain).decode(errors="replace"),
        "raw_path": plain.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("127.0.0.1", 0),
        "server": (host.partition(":")[0], 443),
        "state": {},
        overdue.OWN: True,
    }
    return scope


def _called(application: "WSGIApplication", path: str, host: str) -> tuple[str, bytes]:
    statuses = [""]
    written: list[bytes] = []

    def start(
        status: str, headers: list[tuple[str, str]], exc_info: "OptExcInfo | None" = None, /
    ) -> Callable[[bytes], object]:
        statuses.append(status)
        return written.append

    answer = application(_environ(path, host), start)
    try:
        body = b"".join([*answer])
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
    return statuses[-1], b"".join(written) + body


def _environ(path: str, host: str) -> "WSGIEnvironment":
    """Return a request as it comes through nginx, which has taken the TLS off."""
    plain, _, query = path.partition("?")
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(plain).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": host.partition(":")[0],
        "SERVER_PORT": "443",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": host,
        "HTTP_USER_AGENT": "celeriac",
        "HTTP_X_FORWARDED_FOR": "127.0.0.1",
        "HTTP_X_FORWARDED_PROTO": "https",
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        overdue.OWN: True,
    }
    setup_testing_defaults(environ)
    return environ
