"""The API of the console: start tasks, see what became of them, revoke them, run them again, release what is parked.

Whoever asks is a member of staff, with Django's permission to view, add or change what was sent: a program by a token
(`Authorization: Bearer …`) that `manage.py api_token` made, a page by the session of its user, and then with the CSRF
token (`X-CSRFToken`).

An answer that is no success is `{"error": "…"}`, where arguments are wrong with `"problems"`, by parameter. It is in
English, whatever language is asked for.
"""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, NoReturn, cast

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from ninja import Field, NinjaAPI, Query, Schema, Status
from ninja.errors import AuthenticationError, AuthorizationError, HttpError, ValidationError
from ninja.parser import Parser
from ninja.responses import NinjaJSONEncoder
from ninja.security import HttpBearer, SessionAuth
from ninja.types import DictStrAny
from pydantic import ConfigDict, StringConstraints

from celeriac import registry
from celeriac.console import broker, history, runs, tokens
from celeriac.console.english import in_english
from celeriac.console.views import staff_page
from celeriac.enqueue import BrokerUnavailableError
from celeriac.ledger import permissions

# ==================================================================================================
# Who may
# ==================================================================================================


class AuthenticatedRequest(HttpRequest):
    """A request of somebody who may use the API."""

    auth: AbstractBaseUser


class Token(HttpBearer):
    """Logs a program in by its token, if its user has a permission."""

    def __init__(self, permission: str) -> None:
        super().__init__()
        self._permission = permission

    def __call__(self, request: HttpRequest) -> Any:
        """Return the user, None for no token or a wrong one. The library's own would log what it does not know."""
        scheme, _, token = request.headers.get(self.header, "").partition(" ")
        return self.authenticate(request, token.strip()) if scheme.lower() == "bearer" else None

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        """Return the user, None for a wrong token."""
        return _allowed(tokens.user_of(token), self._permission)


class Session(SessionAuth):
    """Logs a page in by the session of its user, if that has a permission."""

    def __init__(self, permission: str) -> None:
        super().__init__()
        self._permission = permission

    def __call__(self, request: HttpRequest) -> Any:
        """Return the user, None for nobody. Who sends a token means that, not a session beside it."""
        if "Authorization" in request.headers or not request.user.is_authenticated:
            return None
        return _allowed(super().__call__(request), self._permission)  # which asks for the CSRF token


def _allowed(user: Any, permission: str) -> Any:
    """Return the user as is, None for nobody.

    Raises:
        AuthorizationError: somebody, but not a member of staff, or without the permission.
    """
    if user is not None and not user.is_staff:
        raise AuthorizationError(message="Only members of staff may use this.")
    if user is not None and (missing := permissions.missing(user, permission)):
        raise AuthorizationError(message=missing)
    return user


def _may(permission: str) -> list[Any]:
    """Return the ways in to an address, for those who have a permission."""
    return [Token(permission), Session(permission)]


# ==================================================================================================
# What is sent and answered
# ==================================================================================================

# PostgreSQL keeps no text with a NUL in it, so nothing is found by one.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=255)]


class Start(Schema):
    """A task to be sent. What is not known here is refused, or a misspelt `kwargs` would start it without any."""

    model_config = ConfigDict(extra="forbid", strict=True)

    task: str = Field(description="The name under which it is registered.")
    args: list[Any] = Field([], description="Its arguments by position.")
    kwargs: dict[str, Any] = Field({}, description="Its arguments by name.")
    priority: int | None = Field(None, description="0 to 9, 9 first; null for the default.")
    countdown: float | None = Field(None, description="Not before so many seconds from now.")


class Revoke(Schema):
    """How a run is revoked."""

    model_config = ConfigDict(extra="forbid", strict=True)

    terminate: bool = Field(False, description="Stop it at once when it runs already.")


class Sent(Schema):
    """A run that was sent, and where to see what becomes of it."""

    id: str
    url: str


class Run(Schema):
    """A task that was sent, and what became of it; see `celeriac.console.runs.Run`."""

    id: str
    url: str
    name: str
    state: str
    args: Any
    kwargs: Any
    priority: int | None
    eta: datetime | None
    sent_at: datetime | None
    started_at: datetime | None
    done_at: datetime | None
    seconds: float | None
    worker: str
    result: Any
    error: str
    traceback: str
    parent: str | None
    sent_by: str
    entry: str
    not_rerunnable: str


class Page(Schema):
    """A part of the list, the youngest run first; `newer` and `older` are cursors for the neighbours."""

    runs: list[Run]
    newer: str | None
    older: str | None


class Revoked(Schema):
    """What a revoke has done: BEFORE_START, TERMINATED, RUNS_ON or WAS_OVER, and in words."""

    done: str
    text: str


class Parameter(Schema):
    """One parameter of a task; see `celeriac.registry.Parameter`."""

    name: str
    kind: str
    required: bool
    default: Any
    variadic: str
    nullable: bool


class Task(Schema):
    """A registered task."""

    name: str
    app: str
    description: str
    parameters: list[Parameter]
    keeps_arguments: bool


class Problem(Schema):
    """Why not; with wrong arguments, what is wrong with each."""

    error: str
    problems: dict[str, str] = Field({})


class StrictParser(Parser):
    """Takes JSON as the standard has it: Python's parser would let NaN and Infinity pass."""

    def parse_body(self, request: HttpRequest) -> DictStrAny:
        """Return what the body says. Raises ValueError or RecursionError, of which the library makes a 400."""
        return cast(DictStrAny, json.loads(request.body, parse_constant=_refuse))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


# ==================================================================================================
# The addresses
# ==================================================================================================

api = NinjaAPI(
    title="Tasks",
    description=__doc__.partition("\n\n")[2],
    urls_namespace="celeriac-api",
    docs_url="/",
    docs_decorator=cast("Callable[[Any], Any]", staff_page(permissions.VIEW)),
    parser=StrictParser(),
    auth=_may(permissions.VIEW),  # unless the address says otherwise
)
api.add_decorator(in_english, mode="view")


@api.get("/tasks", response=list[Task], summary="The registered tasks by name, and what each takes")
def list_tasks(request: AuthenticatedRequest, q: Text = "") -> list[dict[str, Any]]:
    """Return the tasks that can be started by their name; with `q` those that have each of its words."""
    return [
        {
            **vars(task),
            "parameters": [{**vars(each), "default": _plain(each.default)} for each in task.parameters],
        }
        for task in registry.registered(q)
    ]


@api.get("/runs", response={200: Page, 503: Problem}, summary="What was sent, newest first")
def list_runs(
    request: AuthenticatedRequest,
    state: Text = "",
    name: Text = "",
    entry: Text = "",
    cursor: Text = "",
    size: Annotated[int, Query(ge=1, le=100)] = 25,
) -> Status[dict[str, Any]]:
    """Return a page of runs, without their tracebacks."""
    page = runs.page(state=state, name=name, entry=entry, cursor=cursor, size=size)
    return Status(200, {"runs": [_shown(run) for run in page.runs], "newer": page.newer, "older": page.older})


@api.post(
    "/runs",
    auth=_may(permissions.START),
    response={202: Sent, 404: Problem, 413: Problem, 422: Problem, 503: Problem},
    summary="Start a task",
)
def start(request: AuthenticatedRequest, response: HttpResponse, body: Start) -> Status[dict[str, str]]:
    """Send a task to the workers, and answer at once. Its address is in the header Location too."""
    run_id = runs.start(
        body.task,
        body.args,
        body.kwargs,
        priority=body.priority,
        countdown=body.countdown,
        by=request.auth.get_username(),
    )
    return _sent(request, response, run_id, history.STARTED)


@api.post(
    "/runs/{path:run_id}/revoke",
    auth=_may(permissions.CHANGE),
    response={200: Revoked, 404: Problem, 503: Problem},
    summary="Revoke a run",
)
def revoke(request: AuthenticatedRequest, run_id: Text, body: Revoke | None = None) -> Status[dict[str, str]]:
    """Keep a run from starting; with terminate, stop it when it runs already."""
    terminate = body is not None and body.terminate
    try:
        done = history.revoke(request.auth, run_id, terminate=terminate)
    except BrokerUnavailableError as error:
        text = "The broker is unavailable. It is noted: workers that start will know, those that run do not yet."
        raise HttpError(503, text) from error
    return Status(200, {"done": done.name, "text": done.value})


@api.post(
    "/runs/{path:run_id}/rerun",
    auth=_may(permissions.START),
    response={202: Sent, 404: Problem, 409: Problem, 503: Problem},
    summary="Run again with the same arguments",
)
def rerun(request: AuthenticatedRequest, response: HttpResponse, run_id: Text) -> Status[dict[str, str]]:
    """Send the same task with the same arguments once more, under a new id."""
    return _sent(request, response, runs.rerun(run_id, by=request.auth.get_username()), history.RERUN)


@api.post(
    "/runs/{path:run_id}/release",
    auth=_may(permissions.CHANGE),
    response={202: Sent, 404: Problem, 503: Problem},
    summary="Let a run that is parked run again",
)
def release(request: AuthenticatedRequest, response: HttpResponse, run_id: Text) -> Status[dict[str, str]]:
    """Put a task that did not end too often back into its queue, under its id."""
    broker.release_run(run_id)
    return _sent(request, response, run_id, history.RELEASED)


# Behind the three above: an id may be any text, with slashes too.
@api.get("/runs/{path:run_id}", response={200: Run, 404: Problem, 503: Problem}, summary="State and result of a run")
def show(request: AuthenticatedRequest, run_id: Text) -> Status[dict[str, Any]]:
    """Return all that is known of a run. Until it has ended, its result is null and its error empty."""
    return Status(200, _shown(runs.find(run_id)))


def _sent(request: AuthenticatedRequest, response: HttpResponse, run_id: str, what: str) -> Status[dict[str, str]]:
    history.note(request.auth, run_id, what)
    url = _url(run_id)
    response["Location"] = url
    return Status(202, {"id": run_id, "url": url})


def _url(run_id: str) -> str:
    return reverse("celeriac-api:show", args=[run_id])


def _shown(run: runs.Run) -> dict[str, Any]:
    shown = {**vars(run), "url": _url(run.id), "seconds": run.seconds}
    return {**shown, **{name: _plain(shown[name]) for name in ("args", "kwargs", "result")}}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: a date as text, and what has no form in JSON (NaN, any object) as Python shows it.

    What Celery's serializer carries beyond JSON is text here; a rerun has the value itself.
    """
    try:
        return json.loads(json.dumps(value, cls=NinjaJSONEncoder, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return repr(value)


# ==================================================================================================
# What goes wrong
# ==================================================================================================


def _answer(request: HttpRequest, status: int, error: str, problems: dict[str, str] | None = None) -> HttpResponse:
    body = {"error": error} | ({"problems": problems} if problems else {})
    response = api.create_response(request, body, status=status)
    if status == 401:
        response["WWW-Authenticate"] = "Bearer"
    return response


def _on(status: int, *errors: type[Exception], text: str = "") -> None:
    """Answer these errors with a status, and with a text or their own."""
    for error in errors:
        api.add_exception_handler(error, lambda request, exc: _answer(request, status, text or str(exc)))


_on(404, registry.UnknownTaskError, runs.UnknownRunError, broker.NotParkedError)
_on(404, Http404, text="There is nothing at this address.")
_on(409, runs.NotRerunnableError)
_on(413, RequestDataTooBig, text="The body is too large.")
_on(422, RecursionError, text="The arguments are nested too deeply.")
_on(503, BrokerUnavailableError, text="The broker is unavailable, nothing was started.")
_on(503, runs.ResultsUnavailableError, text="The result backend is unavailable.")
_on(503, OperationalError, InterfaceError, text="The database is unavailable.")
_on(401, AuthenticationError, text="Log in, or send a token: Authorization: Bearer …")


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    return _answer(request, error.status_code, str(error))


@api.exception_handler(ValidationError)
def _not_understood(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Name each part of the request that is not as the schema has it."""
    problems = {".".join(str(part) for part in each["loc"]): each["msg"] for each in error.errors}
    return _answer(request, 422, "The request is not as the schema has it.", problems)


@api.exception_handler(registry.BadArgumentsError)
def _bad_arguments(request: HttpRequest, error: registry.BadArgumentsError) -> HttpResponse:
    return _answer(request, 422, str(error), error.problems)
