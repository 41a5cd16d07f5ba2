"""The pages and addresses of the site."""

import json
import math
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any
from uuid import UUID

from celery import current_app
from celery.states import FAILURE, SUCCESS
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST, require_safe

from app import health as site_health
from app.enqueue import BrokerAwayError, enqueue
from app.models import Post
from app.tasks import add


class BadInputError(ValueError):
    """What was sent cannot be used; the text says why, to whoever sent it."""


def staff_only(
    view: Callable[..., HttpResponseBase],
) -> Callable[..., HttpResponseBase]:
    """Answer 403 as JSON, unless a member of staff is logged in.

    Programs read these addresses, so they get an answer and not the log-in page.
    """

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        user = request.user
        if isinstance(user, AnonymousUser) or not (user.is_active and user.is_staff):
            return JsonResponse({"error": "Log in as a member of staff."}, status=403)
        return view(request, *args, **kwargs)

    return wrapper


@require_safe
@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """Show the posts and how often each was viewed."""
    return render(
        request,
        "app/home.html",
        {"posts": Post.objects.all(), "flower_url": settings.FLOWER_URL},
    )


@require_safe
@never_cache
def health(request: HttpRequest) -> JsonResponse:
    """Say whether the database and the broker answer: 200, or 503 when one does not."""
    report = site_health.report()
    return JsonResponse(report, status=200 if set(report.values()) == {"ok"} else 503)


@require_POST
@staff_only
def enqueue_add(request: HttpRequest) -> JsonResponse:
    """Send `add` to a worker and return at once.

    Takes numbers `x` and `y`, as a form or as a JSON object. Answers 202 with the task's id and the
    address of its state, 400 when they are not numbers, 503 when the broker is away.
    """
    try:
        data = _object(request)
        numbers = [_number(data, name) for name in ("x", "y")]
    except BadInputError as error:
        return JsonResponse({"error": str(error)}, status=400)
    try:
        result = enqueue(add, *numbers)
    except BrokerAwayError:
        return JsonResponse({"error": "The broker is away, nothing was started."}, status=503)
    url = reverse("task-state", args=[result.id])
    return JsonResponse({"id": result.id, "url": url}, status=202, headers={"Location": url})


@require_GET
@never_cache
@staff_only
def task_state(request: HttpRequest, task_id: UUID) -> JsonResponse:
    """Return a task's state, with its result or its error once it has ended.

    A task that Celery never heard of is PENDING too: it keeps no list of what was sent.
    """
    backend = current_app.backend
    # Redis's errors; a database that is away has failed before this, when the user was looked up.
    away = getattr(backend, "connection_errors", ())
    try:
        # One read, so that state and result belong together.
        meta = backend.get_task_meta(str(task_id))
    except away:
        return JsonResponse({"error": "The result store is away."}, status=503)
    state, outcome = meta["status"], meta["result"]
    return JsonResponse(
        {
            "id": str(task_id),
            # The two result backends call it differently.
            "name": meta.get("name") or meta.get("task_name"),
            "state": state,
            "result": outcome if state == SUCCESS else None,
            "error": f"{type(outcome).__name__}: {outcome}" if state == FAILURE else None,
        },
        # A result can hold what plain JSON cannot, such as a date.
        json_dumps_params={"default": str},
    )


def _object(request: HttpRequest) -> Mapping[str, Any]:
    """Return the names and values that were sent, as a form or as JSON."""
    if request.content_type != "application/json":
        return request.POST
    try:
        data = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise BadInputError("The body is not JSON.") from error
    if not isinstance(data, dict):
        raise BadInputError('The body is not a JSON object such as {"x": 2, "y": 3}.')
    return data


def _number(data: Mapping[str, Any], name: str) -> int | float:
    """Return a finite number; text as a form sends it counts, true and false do not."""
    value = data.get(name)
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise BadInputError(f"{name} is not a number.")
    return value


def _is_finite(value: int | float) -> bool:
    """Return False for infinities, NaN, and whole numbers too large to be added to a float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
