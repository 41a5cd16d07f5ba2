"""One request to a WSGI application from within its process, as it would come through nginx."""

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes
from wsgiref.util import setup_testing_defaults

from celeriac.web import overdue

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment


def get(application: "WSGIApplication", path: str, host: str) -> tuple[str, bytes]:
    """GET a page as somebody who is not logged in.

    Args:
        application: as gunicorn would call it.
        path: with a query, if there is one, such as ``/health/``.
        host: name of the site.

    Returns:
        Status line and body, such as ``200 OK`` and ``b"…"``; the status is empty where the
        application gave none.
    """
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
