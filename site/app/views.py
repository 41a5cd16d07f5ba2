"""The pages and addresses of the site."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from celeriac import registry
from celeriac.console import history, runs
from celeriac.console.english import in_english
from celeriac.console.pages import render
from celeriac.console.views import Request, live, not_allowed, staff_page
from celeriac.enqueue import BrokerUnavailableError, enqueue
from celeriac.ledger import permissions
from celeriac.schedule.upcoming import upcoming
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from app import mail
from app.forms import EmailsForm
from app.models import Post
from app.tasks import add


@require_safe
@never_cache
@vary_on_headers("HX-Request")
def home(request: Request) -> HttpResponse:
    """Show the posts, what runs now and what is due next; what tasks were given and returned is not for strangers."""
    try:
        running = runs.page(state="STARTED", size=5).runs
    except runs.ResultsUnavailableError:
        running = None
    context = {"posts": Post.objects.all(), "upcoming": upcoming(), "running": running}
    if not permissions.may(request, permissions.VIEW):
        # Only for those is the page kept live: it is open to everybody, and each look at the tasks is a query.
        return render(request, "app/home.html", context)
    return live(request, "app/home.html", "app/_running.html", running, context)


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """Lead to the icon; browsers ask here on pages that name none, such as the admin's."""
    return redirect(static("app/icon.svg"))


@require_POST
@in_english
def enqueue_add(request: HttpRequest) -> JsonResponse:
    """Send `add` to a worker and return at once.

    Takes numbers `x` and `y`, as a form or as a JSON object. Answers 202 with the task's id and the address of its
    state, 400 when they are not numbers, 503 when the broker is unavailable; 403, and not the log-in page, for programs
    read this address.
    """
    if refused := not_allowed(request, permissions.START):
        return refused
    try:
        data = _object(request)
        numbers = [_number(data, name) for name in ("x", "y")]
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    try:
        result = enqueue(add, *numbers)
    except BrokerUnavailableError:
        return JsonResponse({"error": "The broker is unavailable, nothing was started."}, status=503)
    url = reverse("celeriac:run", args=[result.id])
    return JsonResponse({"id": result.id, "url": url}, status=202, headers={"Location": url})


@staff_page(permissions.START)
@require_http_methods(["GET", "HEAD", "POST"])
def send_emails(request: Request) -> HttpResponse:
    """Show the form with ten addresses; take it, and answer before the first e-mail is sent."""
    form = EmailsForm(request.POST if request.method == "POST" else None, label_suffix="")
    if request.method != "POST" or not form.is_valid():
        return render(request, "app/emails.html", {"form": form}, status=400 if form.errors else 200)
    addresses = form.cleaned_data["addresses"]
    try:
        run_id = mail.start(addresses, by=request.user.get_username())
    except registry.BadArgumentsError as error:
        form.add_error("addresses", error.problems.get("addresses") or str(error))
        return render(request, "app/emails.html", {"form": form}, status=400)
    except BrokerUnavailableError:
        form.add_error(None, _("The broker is unavailable, nothing was started."))
        return render(request, "app/emails.html", {"form": form}, status=503)
    history.note(request.user, run_id, history.STARTED)
    messages.success(request, _("The e-mails are on their way. This answer did not wait for them."))
    return redirect("celeriac:run", run_id)


def _object(request: HttpRequest) -> Mapping[str, Any]:
    """Return the names and values that were sent, as a form or as JSON."""
    if request.content_type != "application/json":
        return request.POST
    with suppress(ValueError, RecursionError):
        if isinstance(data := json.loads(request.body), dict):
            return data
    raise ValueError('The body is not a JSON object such as {"x": 2, "y": 3}.')


def _number(data: Mapping[str, Any], name: str) -> int | float:
    """Return a finite number; text as a form sends it counts, true and false do not."""
    value = data.get(name)
    for kind in (int, float):
        if isinstance(value, str):
            with suppress(ValueError):
                value = kind(value)
    with suppress(OverflowError):  # a whole number too large to be added to a float
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return value
    raise ValueError(f"{name} is not a number.")
