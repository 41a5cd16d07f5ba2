"""``gunicorn celeriac.web.wsgi:application``: the project's WSGI application, wrapped.

Every response names its release in ``X-Release``, and ``/-/celeriac/…`` is answered here
(`celeriac.web.health`); all else is the project's, and finds the visitor's address in
``REMOTE_ADDR``. Each request has a timer (`celeriac.web.overdue`).

gunicorn imports this module before it forks (``--preload``), so nothing is connected when the
import is over. The import fails if the release was to be checked and is not ready
(`celeriac.web.readiness`).
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from celeriac.project import release, wsgi_application
from celeriac.web import health, overdue, readiness
from celeriac.web.loading import load

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

RELEASE_HEADER = "X-Release"

app, project = load(wsgi_application)


@overdue.timed
def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer one request (PEP 3333)."""
    _fill_in_address(environ)

    def start(
        status: str, headers: list[tuple[str, str]], exc_info: "OptExcInfo | None" = None, /
    ) -> Callable[[bytes], object]:
        others = [header for header in headers if header[0].lower() != RELEASE_HEADER.lower()]
        return start_response(status, [*others, (RELEASE_HEADER, release())], exc_info)

    if environ.get("PATH_INFO", "").startswith(health.PREFIX):
        return health.answer(app, environ, start)
    return project(environ, start)


def _fill_in_address(environ: "WSGIEnvironment") -> None:
    """Let the application know who asks.

    Over a Unix socket there is no address (gunicorn leaves it empty), and nobody but nginx: the
    header is what that has written over whatever the visitor sent. Over TCP it could be forged.
    """
    if not environ.get("REMOTE_ADDR"):
        environ["REMOTE_ADDR"] = environ.get("HTTP_X_FORWARDED_FOR", "")


if readiness.wanted():
    readiness.check(application)
