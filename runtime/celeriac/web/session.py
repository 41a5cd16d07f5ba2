"""Whether somebody's session of the site opens what stands beside it: nginx asks before it lets them to Flower.

==========================================  =====  ===============================================================
request                                            answer, without a body
==========================================  =====  ===============================================================
``GET /-/celeriac/session/superusers``      204    the session is one of an active superuser whom the admin lets in
``GET /-/celeriac/session/staff``           204    of anybody whom the admin lets in: active members of staff
either                                      401    it is not; with ``Location``, where a browser may log in
either                                      403    it is, but a page of another site has made the browser ask
==========================================  =====  ===============================================================

Like all of `celeriac.web.health` these need the token, and no line of the project. The request goes through the
project's own middleware, so what that asks of a session beyond Django (a second factor, an address, an age) holds here
too; it ends at a view of ours in place of one of the project. Where the middleware answers by itself, that is 401.

What was asked is told by ``X-Original-Method`` and ``X-Original-URI``. Asking is no use of the session: it is not
saved, so it ends when it would have ended, and Flower's pages, which ask by themselves, keep nobody logged in.
"""

from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, ResolverMatch, is_valid_path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SUPERUSERS, STAFF = "session/superusers", "session/staff"
PATHS = frozenset({SUPERUSERS, STAFF})

# Where the view finds what it is asked, and notes what it has found.
_WHOSE = "celeriac.session.whose"
_FOUND = "celeriac.session.found"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def answer(environ: "WSGIEnvironment", start_response: "StartResponse", path: str) -> Iterable[bytes]:
    """Answer one of `PATHS` (PEP 3333).

    Args:
        environ: the request; its token was looked at.
        start_response: takes status and headers.
        path: which of `PATHS`.
    """
    found: list[tuple[HTTPStatus, str]] = []
    # The token is ours, and no business of the project.
    asked = {name: value for name, value in environ.items() if name != "HTTP_AUTHORIZATION"}
    passed = _passes({**asked, _FOUND: found, _WHOSE: path})
    status, form = found[0] if passed and found else (HTTPStatus.UNAUTHORIZED, "")
    headers = [("Cache-Control", "no-store")]
    if status != HTTPStatus.NO_CONTENT:  # which has no body, and so no length of one (RFC 9110, 8.6)
        headers.append(("Content-Length", "0"))
    if form:
        headers.append(("Location", form))
    start_response(f"{status.value} {status.phrase}", headers)
    return []


def _passes(environ: "WSGIEnvironment") -> bool:
    """Return whether the project's middleware lets a request come to the view, and its answer come back."""
    statuses: list[str] = []

    def start(status: str, _: list[tuple[str, str]], __: Any = None, /) -> Any:
        statuses.append(status)

    response = _handler()(environ, start)
    try:
        for _ in response:
            pass
    finally:
        response.close()
    return statuses[-1].startswith(f"{HTTPStatus.NO_CONTENT.value} ")


@cache
def _handler() -> WSGIHandler:
    """Return what calls the project's middleware, made when it is first asked for: many a site has no Flower."""
    return _Handler()


def _nothing(*_: object, **__: object) -> None:
    pass


class _Request(WSGIRequest):
    """A request that changes no session.

    An answer's cookie reaches nobody here, so a session must not get another key, as Django gives it one whose hash is
    of an old SECRET_KEY. That is done with the next page of the site.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "session":
            value.save = value.cycle_key = _nothing
        super().__setattr__(name, value)


class _Handler(WSGIHandler):
    """Django, with one view."""

    request_class = _Request

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """Find the view, wherever the project has its own."""
        match = ResolverMatch(_view, (), {}, url_name=None, route="")
        request.resolver_match = match
        return match


@non_atomic_requests
@never_cache
def _view(request: HttpRequest) -> HttpResponse:
    """Note what the session is good for. The answer is the same for all, so nothing is logged of who is refused."""
    form = ""
    if not _may(request):
        status, form = HTTPStatus.UNAUTHORIZED, _form_for(request)
    else:
        status = HTTPStatus.FORBIDDEN if _is_forged(request) else HTTPStatus.NO_CONTENT
    request.META[_FOUND].append((status, form))
    return HttpResponse(status=HTTPStatus.NO_CONTENT)


# Django's LoginRequiredMiddleware (5.1) leaves it alone.
_view.login_required = False


def _may(request: HttpRequest) -> bool:
    """Return whether this user is one for whom the door is opened, none where the project has no sessions."""
    user: Any = getattr(request, "user", None)
    if user is None:
        return False
    if apps.is_installed("django.contrib.admin"):
        from django.contrib import admin  # has models, which a project may not have

        # A project may have a site of its own as the default one, which asks more.
        may = admin.site.has_permission(request)
    else:
        may = user.is_active and getattr(user, "is_staff", False)
    return bool(may and (request.META[_WHOSE] == STAFF or getattr(user, "is_superuser", False)))


def _is_forged(request: HttpRequest) -> bool:
    """Return whether a page of another site lets the browser change something (CSRF), which old Flowers do not see."""
    if request.headers.get("X-Original-Method") in _SAFE_METHODS:
        return False
    if site := request.headers.get("Sec-Fetch-Site"):
        return bool(site != "same-origin")
    origin = request.headers.get("Origin")
    return origin is not None and bool(urlsplit(origin).netloc != request.get_host())


def _form_for(request: HttpRequest) -> str:
    """Return where a browser that wants a page may log in and come back, empty where it is none, or there is none."""
    is_page = request.headers.get("X-Original-Method") == "GET" and "text/html" in request.headers.get("Accept", "")
    if not is_page or not hasattr(request, "user"):
        return ""
    address = _form(request)
    if not address:
        return ""
    from django.contrib.auth.views import redirect_to_login  # has models, which a project may not have

    wanted = request.headers.get("X-Original-URI", "")
    back = wanted if url_has_allowed_host_and_scheme(wanted, allowed_hosts=None) else "/"
    return str(redirect_to_login(back, address).url)


def _form(request: HttpRequest) -> str:
    """Return the form of a log-in: that of the admin, as for the console; else the project's own."""
    try:
        return str(reverse("admin:login"))
    except NoReverseMatch:
        # The admin's says to whoever is logged in already that they may not; another could send them back, for ever.
        if request.user.is_authenticated:
            return ""
    address = str(resolve_url(settings.LOGIN_URL))
    is_there = not address.startswith("/") or is_valid_path(urlsplit(address).path)
    return address if is_there else ""
