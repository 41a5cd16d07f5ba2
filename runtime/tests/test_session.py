"""Whose session of the site opens Flower: asked as nginx asks, of projects of several kinds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from demo.settings import SECRET_KEY
from environment import TOKEN

APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
WITH_SESSIONS = {"INSTALLED_APPS": APPS, "MIDDLEWARE": MIDDLEWARE, "LOGIN_URL": "/enter/"}
WITH_ADMIN = {
    **WITH_SESSIONS,
    "INSTALLED_APPS": [*APPS, "django.contrib.admin", "django.contrib.messages"],
    "LOGGING": {
        "version": 1,
        "handlers": {"stderr": {"class": "logging.StreamHandler"}},
        "loggers": {"django.request": {"handlers": ["stderr"]}},
    },
    "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
}
# A view under another name than the one of the default, and the admin where it is installed.
URLS = """
from django.apps import apps
from django.contrib import admin
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("enter/", lambda request: HttpResponse("enter"))]
if apps.is_installed("django.contrib.admin"):
    urlpatterns.append(path("back/", admin.site.urls))
"""
PEOPLE = """
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models
class Person(AbstractBaseUser):
    email = models.EmailField(unique=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    USERNAME_FIELD = "email"
    objects = BaseUserManager()
"""
MIDDLE = """
from django.http import HttpResponse, HttpResponseRedirect
def only_at_noon(get_response):
    def middleware(request):
        if request.headers.get("X-Late"):
            return HttpResponseRedirect("/enter/")
        return get_response(request)
    return middleware
def makes_all_good(get_response):
    def middleware(request):
        get_response(request)
        return HttpResponse(status=204)
    return middleware
def sends_away(get_response):
    def middleware(request):
        get_response(request)
        return HttpResponseRedirect("/enter/")
    return middleware
def shows_what_it_sees(get_response):
    def middleware(request):
        if "Authorization" in request.headers:
            raise ValueError("a token that is not for the project")
        return get_response(request)
    return middleware
"""
SCRIPT = """
import asyncio, io, json, os, sys
from wsgiref.util import setup_testing_defaults
kind = "asgi" if os.environ.get("CELERIAC_ASGI_APPLICATION") else "wsgi"
if kind == "asgi":
    from celeriac.web.asgi import application
else:
    from celeriac.web.wsgi import application
from django.conf import settings
from django.contrib import auth
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from importlib import import_module

call_command("migrate", run_syncdb=True, verbosity=0)
User = auth.get_user_model()
cookies = {}
if "django.contrib.sessions" in settings.INSTALLED_APPS:
    Store = import_module(settings.SESSION_ENGINE).SessionStore
    for name in ("superuser", "staff", "plain", "gone"):
        is_super, is_active = name in ("superuser", "gone"), name != "gone"
        rights = {"is_staff": name != "plain", "is_superuser": is_super, "is_active": is_active}
        fields = {field.name for field in User._meta.get_fields()} & rights.keys()
        user = User(**{User.USERNAME_FIELD: name, **{field: rights[field] for field in fields}})
        user.save()
        store = Store()
        store[auth.SESSION_KEY] = str(user.pk)
        store[auth.BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        store[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()
        store.save()
        cookies[name] = store.session_key
os.environ.update(json.loads(sys.argv[2]))
for name, value in json.loads(os.environ.get("LATER_SETTINGS", "{}")).items():
    setattr(settings, name, value)

def stored():
    return sorted(Store().__class__.get_model_class().objects.values_list("session_key", "expire_date", "session_data"))

def wsgi(path, headers):
    environ = {"PATH_INFO": path, "REQUEST_METHOD": "GET", "HTTP_HOST": "www.example.org", "wsgi.input": io.BytesIO()}
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    setup_testing_defaults(environ)
    answer = []
    body = b"".join(application(environ, lambda *head: answer.append(head)))
    (status, given), = [head[:2] for head in answer]
    return int(status[:3]), {name.lower(): value for name, value in given}, body.decode()

def asgi(path, headers):
    sent = []
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "https",
             "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("127.0.0.1", 0),
             "server": ("www.example.org", 443),
             "headers": [(n.lower().encode(), v.encode()) for n, v in {"Host": "www.example.org", **headers}.items()]}
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message):
        sent.append(message)
    asyncio.run(application(scope, receive, send))
    given = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], given, b"".join(message.get("body", b"") for message in sent[1:]).decode()

answers = []
for who, whose, headers in json.loads(sys.argv[1]):
    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={cookies[who]}"} if who in cookies else {}
    path = f"/-/celeriac/session/{whose}"
    before = stored() if cookies else []
    with CaptureQueriesContext(connection) as queries:
        status, given, body = globals()[kind](path, {**cookie, **headers})
    assert not cookies or stored() == before, "a session has changed"
    answers.append([status, given, body, len(queries) if kind == "wsgi" else 0])
print(json.dumps(answers))
"""
PAGE = {
    "Authorization": f"Bearer {TOKEN}",
    "X-Original-Method": "GET",
    "X-Original-URI": "/flower/tasks?x=1&y=2",
    "Accept": "text/html,*/*",
}
EVERYBODY = ("superuser", "staff", "plain", "gone", "nobody")


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: str
    queries: int


class Asking:
    """A project to ask.

    Args:
        environment: of its processes.
        folder: where it is.

    Attributes:
        log: what it has written when it was last asked.
    """

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = environment
        (folder / "demo" / "urls.py").write_text(URLS)
        (folder / "demo" / "middle.py").write_text(MIDDLE)
        (folder / "people").mkdir()
        (folder / "people" / "__init__.py").touch()
        (folder / "people" / "models.py").write_text(PEOPLE)

    def __call__(
        self,
        settings: dict[str, Any],
        *questions: tuple[str, str, dict[str, str]],
        kind: str = "wsgi",
        later: dict[str, Any] | None = None,
    ) -> list[Answer]:
        """Ask who may come in, of superusers or staff, with these headers.

        Args:
            settings: of the project.
            questions: who asks, whose sessions are good, and headers.
            kind: how the project is called, wsgi or asgi.
            later: settings that come when people have logged in.
        """
        chosen = {"CELERIAC_ASGI_APPLICATION": "demo.asgi:application", "CELERIAC_WSGI_APPLICATION": ""}
        Path(self._environment["SQLITE"]).unlink(missing_ok=True)  # of another that was asked before
        done = subprocess.run(
            [
                *(sys.executable, "-c", SCRIPT, json.dumps(questions)),
                json.dumps({"LATER_SETTINGS": json.dumps(later or {})}),
            ],
            env={**self._environment, "MORE_SETTINGS": json.dumps(settings), **(chosen if kind == "asgi" else {})},
            capture_output=True,
            text=True,
            check=False,
        )
        self.log = done.stderr
        assert done.returncode == 0, self.log[-3000:]
        return [Answer(*answer) for answer in json.loads(done.stdout)]


@pytest.fixture
def ask(bare_environment: dict[str, str], project: Path) -> Asking:
    """A project that nobody has asked yet."""
    return Asking(bare_environment, project)


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_a_session_is_good_for_whom_it_was_chosen(ask: Asking, kind: str) -> None:
    """At the price of two queries: the session and its user. Of who is refused nothing is logged."""
    questions = [(who, whose, PAGE) for whose in ("superusers", "staff") for who in EVERYBODY]
    answers = ask(WITH_ADMIN, *questions, kind=kind)

    assert [each.status for each in answers] == [204, 401, 401, 401, 401, 204, 204, 401, 401, 401]
    assert {(each.headers["cache-control"], each.body) for each in answers} == {("no-store", "")}
    assert max(each.queries for each in answers) <= 2
    assert "/-/celeriac/" not in ask.log
    back = "/back/login/?next=/flower/tasks%3Fx%3D1%26y%3D2"
    assert [each.headers.get("location") for each in answers] == [
        None if each.status == 204 else back for each in answers
    ]


def test_without_the_token_it_is_not_there(ask: Asking) -> None:
    bare = {name: value for name, value in PAGE.items() if name != "Authorization"}
    answers = ask(
        WITH_ADMIN, *(("staff", "staff", {**bare, **more}) for more in ({}, {"Authorization": "Bearer wrong"}))
    )

    assert [(each.status, each.body, each.queries) for each in answers] == [(404, '{"error": "not found"}', 0)] * 2


def test_only_a_browser_that_wants_a_page_is_led_to_the_log_in(ask: Asking) -> None:
    """And only back to where it was."""
    different = [
        {"Accept": "application/json"},
        {"X-Original-Method": "POST"},
        {"X-Original-URI": "//evil.test/../flower/"},
        {"X-Original-URI": "https://evil.test/flower/"},
    ]
    answers = ask(WITH_ADMIN, *(("nobody", "staff", {**PAGE, **more}) for more in different))

    assert {each.status for each in answers} == {401}
    assert [each.headers.get("location") for each in answers] == [None, None, *["/back/login/?next=/"] * 2]


def test_a_project_without_an_admin_has_its_own_log_in(ask: Asking) -> None:
    """With a user model that has no superusers; who is logged in is not sent there again, and none where it is not."""
    settings = {
        **WITH_SESSIONS,
        "INSTALLED_APPS": [*APPS, "people"],
        "AUTH_USER_MODEL": "people.Person",
        # Who is not active is logged in, too.
        "AUTHENTICATION_BACKENDS": ["django.contrib.auth.backends.AllowAllUsersModelBackend"],
    }
    answers = ask(settings, *((who, "staff", PAGE) for who in EVERYBODY), ("staff", "superusers", PAGE))

    assert [each.status for each in answers] == [204, 204, 401, 401, 401, 401]
    places = [each.headers.get("location") for each in answers]
    assert places == [None, None, None, None, "/enter/?next=/flower/tasks%3Fx%3D1%26y%3D2", None]
    (lost,) = ask({**settings, "LOGIN_URL": "/not/here/"}, ("nobody", "staff", PAGE))
    assert (lost.status, lost.headers.get("location")) == (401, None)


@pytest.mark.parametrize("middleware", [[], MIDDLEWARE[:1]])
def test_a_project_without_sessions_lets_nobody_in(ask: Asking, middleware: list[str]) -> None:
    """And leads nobody to a log-in that opens nothing."""
    settings = {**WITH_ADMIN, "MIDDLEWARE": middleware}
    (answer,) = ask(settings, ("superuser", "staff", PAGE))

    assert (answer.status, answer.headers.get("location")) == (401, None)


def test_asking_is_no_use_of_a_session(ask: Asking) -> None:
    """Neither where each request is one, nor where a new key is due; then it is as good as before."""
    settings = {**WITH_ADMIN, "SESSION_SAVE_EVERY_REQUEST": True}
    later = {"SECRET_KEY": "another", "SECRET_KEY_FALLBACKS": [SECRET_KEY]}
    answers = ask(settings, *[("staff", "staff", PAGE)] * 2, later=later)

    assert [each.status for each in answers] == [204, 204]
    assert all("set-cookie" not in each.headers for each in answers)


def test_a_page_of_another_site_changes_nothing(ask: Asking) -> None:
    """Whatever Flower thinks of it; to look is no change."""
    own, other = {"Origin": "https://www.example.org"}, {"Origin": "https://evil.test"}
    good: list[dict[str, str]] = [{}, own, {"Sec-Fetch-Site": "same-origin", **own}]
    forged = [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site", **own}, other, {"Origin": "null"}]
    post = {**PAGE, "X-Original-Method": "POST"}
    answers = ask(
        WITH_ADMIN,
        *(("staff", "staff", {**post, **sent}) for sent in good + forged),
        *(("staff", "staff", {**PAGE, **sent}) for sent in forged),
        ("plain", "staff", {**post, **forged[0]}),
    )

    assert [each.status for each in answers] == [204] * 3 + [403] * 4 + [204] * 4 + [401]


def test_what_the_project_asks_of_a_session_holds(ask: Asking) -> None:
    """Its middleware is asked, hears nothing of our token, and cannot let in by accident."""
    own = {**WITH_ADMIN, "MIDDLEWARE": ["demo.middle.shows_what_it_sees", "demo.middle.only_at_noon", *MIDDLEWARE]}
    early, late = ask(own, ("staff", "staff", PAGE), ("staff", "staff", {**PAGE, "X-Late": "1"}))
    assert (early.status, late.status) == (204, 401)
    assert "location" not in late.headers
    for who, middleware in (("plain", "makes_all_good"), ("staff", "sends_away")):
        (answer,) = ask({**own, "MIDDLEWARE": [f"demo.middle.{middleware}", *MIDDLEWARE]}, (who, "staff", PAGE))
        assert answer.status == 401
