"""The console: the pages on which staff start tasks, watch them, call them back, release them and run them again."""

import hashlib
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.admin.views.decorators import staff_member_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect
from django.urls.converters import StringConverter
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.decorators.vary import vary_on_headers
from django_htmx.http import HttpResponseClientRefresh
from django_htmx.middleware import HtmxDetails

from celeriac import registry
from celeriac.console import broker, graphs, history, runs, samples, schedule, states
from celeriac.console.delivery import delivery
from celeriac.console.english import in_english
from celeriac.console.forms import StartForm
from celeriac.console.pages import render
from celeriac.console.runs import Revoked
from celeriac.enqueue import BrokerUnavailableError
from celeriac.ledger import permissions

View = Callable[..., HttpResponseBase]


class TextConverter(StringConverter):
    """Whatever a task or a run may be called: slashes too, but no NUL, which PostgreSQL does not take."""

    regex = r"[^\x00]+"


class Request(HttpRequest):
    """A request that has passed django-htmx's middleware."""

    htmx: HtmxDetails


# By what the list is filtered.
FILTERS = ("state", "name", "entry")

# What a revoke has done, in words for a page.
REVOKED = {
    Revoked.BEFORE_START: gettext_lazy("Revoked: it will not start."),
    Revoked.TERMINATED: gettext_lazy("It ran, and was stopped at once."),
    Revoked.RUNS_ON: gettext_lazy("It runs already, and a revoke alone does not stop it: terminate does."),
    Revoked.WAS_OVER: gettext_lazy("It had ended before."),
}


def staff_page(permission: str) -> Callable[[View], View]:
    """Show the log-in page to strangers, and come back here after it; to staff who may not, say what is missing.

    Args:
        permission: of `celeriac.ledger.permissions`.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def allowed(request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if missing := permissions.missing(request.user, permission):
                return render(request, "celeriac/console/forbidden.html", {"missing": missing}, status=403)
            return view(request, *args, **kwargs)

        guarded = staff_member_required(never_cache(allowed), login_url="admin:login")

        @wraps(view)
        def wrapper(request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
            # A page that stays live while its log-in ends: the whole page is loaded again, not a form put into it.
            if request.htmx and not permissions.may(request, permission):
                return HttpResponseClientRefresh()
            return guarded(request, *args, **kwargs)

        return wrapper

    return decorate


# ==================================================================================================
# Watching
# ==================================================================================================


@staff_page(permissions.VIEW)
@require_safe
@vary_on_headers("HX-Request")
def run_list(request: Request) -> HttpResponse:
    """List the runs, newest first; filtered by state, task and entry of the schedule, in pages."""
    state, name, entry, cursor = (_asked(request, key) for key in (*FILTERS, "cursor"))
    context = {
        "state": state,
        "name": name,
        "entry": entry,
        "states": states.STATES.values(),
        "apps": registry.by_app(),
        "filters": _query(request, *FILTERS),
    }
    try:
        page = runs.page(state=state, name=name, entry=entry, cursor=cursor)
    except runs.ResultsUnavailableError:
        return render(request, "celeriac/console/runs.html", context, status=503)
    return live(
        request,
        "celeriac/console/runs.html",
        "celeriac/console/_runs.html",
        page,
        {
            **context,
            "page": page,
            "cursor": cursor,
            "entries": schedule.pages(request, [entry, *(each.entry for each in page.runs)]),
        },
    )


def run(request: Request, run_id: str) -> HttpResponseBase:
    """Show one run with its whole life: a page to a browser, JSON to a program."""
    if request.htmx or request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        return _run_page(request, run_id)
    return _run_json(request, run_id)


@staff_page(permissions.VIEW)
@require_safe
@vary_on_headers("HX-Request", "Accept")
def _run_page(request: Request, run_id: str) -> HttpResponse:
    try:
        found = runs.find(run_id)
    except runs.UnknownRunError as error:
        raise Http404 from error
    except runs.ResultsUnavailableError:
        return render(request, "celeriac/console/run.html", {"run_id": run_id}, status=503)
    reruns = runs.reruns(run_id)
    done = history.entries(run_id)
    parked = broker.parked_as(found)
    entries = schedule.pages(request, [found.entry])
    context = {"run": found, "run_id": run_id, "reruns": reruns, "done": done, "parked": parked, "entries": entries}
    return live(
        request, "celeriac/console/run.html", "celeriac/console/_run.html", (found, reruns, len(done), parked), context
    )


def not_allowed(request: HttpRequest, permission: str) -> JsonResponse | None:
    """Return the answer to a program that may not do this, None for one that may."""
    if not permissions.is_staff(request):
        return JsonResponse({"error": "Log in as a member of staff."}, status=403)
    missing = permissions.missing(request.user, permission)
    return JsonResponse({"error": missing}, status=403) if missing else None


def no_address(request: HttpRequest, address: str) -> JsonResponse:
    """Say to a program that the API has nothing there."""
    return JsonResponse({"error": "There is nothing at this address."}, status=404)


@never_cache
@require_safe
@vary_on_headers("Accept")
@in_english
def _run_json(request: Request, run_id: str) -> JsonResponse:
    """Answer a program; it gets an answer and not the log-in page.

    A task that Celery never heard of is PENDING here too. More than this is under `api/`.
    """
    if refused := not_allowed(request, permissions.VIEW):
        return refused
    try:
        found = runs.find(run_id)
    except runs.UnknownRunError:
        found = runs.Run(run_id, "", "PENDING")
    except runs.ResultsUnavailableError:
        return JsonResponse({"error": "The result backend is unavailable."}, status=503)
    return JsonResponse(
        {
            "id": found.id,
            "name": found.name or None,
            "state": found.state,
            "result": found.result if found.state == "SUCCESS" else None,
            "error": found.error if found.state == "FAILURE" else None,
        },
        # A result can hold what plain JSON cannot, such as a date.
        json_dumps_params={"default": str},
    )


@staff_page(permissions.VIEW)
@require_safe
@vary_on_headers("HX-Request")
def graph_page(request: Request) -> HttpResponse:
    """Show queue length, ended tasks and run time of the last day, what the journal has counted, and the broker."""
    drawn, counted, known = graphs.last_day(), delivery(), broker.state()
    context = {
        "graphs": drawn,
        "delivery": counted,
        "broker": known,
        "results_are_counted": samples.results_are_in_the_database(),
    }
    return live(
        request, "celeriac/console/graphs.html", "celeriac/console/_graphs.html", (drawn, counted, known), context
    )


def live(request: Request, page: str, fragment: str, shown: Any, context: dict[str, Any]) -> HttpResponse:
    """Return the whole page; to htmx, which asks again and again, the part that changes, or nothing if it did not.

    A part that is put in again without need would take away what the reader has just marked.

    Args:
        request: from htmx it carries `seen`, which stood in the part that the browser has.
        page: the template of the whole.
        fragment: the template of the part.
        shown: what the part shows: as long as that looks the same, the part is not sent again.
        context: for both.
    """
    seen = hashlib.sha256(f"{get_language()} {shown!r}".encode(errors="replace")).hexdigest()[:16]
    if request.htmx and request.GET.get("seen") == seen:
        return HttpResponse(status=204)
    query = request.GET.copy()
    query["seen"] = seen
    live = {"live_url": f"{request.path}?{query.urlencode()}"}
    return render(request, fragment if request.htmx else page, {**context, **live})


def _asked(request: Request, name: str) -> str:
    """Return a part of the query; a NUL, which PostgreSQL does not take, is in no name."""
    return request.GET.get(name, "").replace("\0", "")


def _query(request: Request, *names: str) -> str:
    """Return these parts of the query, to be followed by others; "" without any."""
    query = request.GET.copy()
    for name in [name for name in query if name not in names or not query[name]]:
        del query[name]
    return f"{query.urlencode()}&" if query else ""


# ==================================================================================================
# Starting
# ==================================================================================================


@staff_page(permissions.START)
@require_safe
@vary_on_headers("HX-Request")
def choose_task(request: Request) -> HttpResponse:
    """List the registered tasks by app, each with a link to the form that starts it; to htmx the list alone."""
    text = _asked(request, "q")
    page = "celeriac/console/_choices.html" if request.htmx else "celeriac/console/choose.html"
    return render(request, page, {"apps": registry.by_app(text), "q": text})


@staff_page(permissions.START)
@require_http_methods(["GET", "HEAD", "POST"])
def start_task(request: Request, name: str) -> HttpResponse:
    """Show the form that starts a task; take it, and go to the page of the run."""
    try:
        task = registry.find(name)
    except registry.UnknownTaskError as error:
        raise Http404 from error
    if request.method != "POST":
        return render(request, "celeriac/console/start.html", {"task": task, "form": StartForm(task)})
    form = StartForm(task, request.POST)
    run_id, status = _start(request, form)
    if run_id:
        return redirect("celeriac:run", run_id)
    return render(request, "celeriac/console/start.html", {"task": task, "form": form}, status=status)


def _start(request: Request, form: StartForm) -> tuple[str, int]:
    """Start what the form says; return the id of the run, or "" and the status of the answer that shows why not."""
    if not form.is_valid():
        return "", 400
    args, kwargs = form.call()
    try:
        run_id = runs.start(
            form.task.name,
            args,
            kwargs,
            priority=form.cleaned_data["priority"],
            countdown=form.cleaned_data["countdown"],
            by=request.user.get_username(),
        )
    except registry.BadArgumentsError as error:
        form.blame(error.problems)
        return "", 400
    except BrokerUnavailableError:
        form.add_error(None, _("The broker is unavailable, nothing was started."))
        return "", 503
    history.note(request.user, run_id, history.STARTED)
    return run_id, 302


# ==================================================================================================
# Calling back, running again
# ==================================================================================================


@staff_page(permissions.CHANGE)
@require_http_methods(["GET", "HEAD", "POST"])
def revoke(request: Request, run_id: str, *, terminate: bool) -> HttpResponse:
    """Ask first; then keep a run from starting or, with terminate, stop it at once."""
    if request.method != "POST":
        try:
            found = runs.find(run_id)
        except (runs.UnknownRunError, runs.ResultsUnavailableError) as error:
            raise Http404 from error
        return render(request, "celeriac/console/confirm.html", {"run": found, "terminate": terminate})
    try:
        done = history.revoke(request.user, run_id, terminate=terminate)
    except runs.UnknownRunError as error:
        raise Http404 from error
    except BrokerUnavailableError:
        messages.warning(
            request,
            _("The broker is unavailable. It is noted: workers that start will know, those that run do not yet."),
        )
    else:
        messages.success(request, REVOKED[done])
    return redirect("celeriac:run", run_id)


@staff_page(permissions.START)
@require_POST
def rerun(request: Request, run_id: str) -> HttpResponse:
    """Send the same task with the same arguments again, and go to the page of the new run."""
    try:
        new_id = runs.rerun(run_id, by=request.user.get_username())
    except runs.UnknownRunError as error:
        raise Http404 from error
    except runs.NotRerunnableError as error:
        messages.error(request, _("It cannot be run again: %s") % error)
        return redirect("celeriac:run", run_id)
    except BrokerUnavailableError:
        messages.error(request, _("The broker is unavailable, nothing was started."))
        return redirect("celeriac:run", run_id)
    history.note(request.user, new_id, history.RERUN)
    return redirect("celeriac:run", new_id)


@staff_page(permissions.CHANGE)
@require_POST
def release(request: Request, run_id: str) -> HttpResponse:
    """Put a task that is parked back into its queue."""
    try:
        broker.release_run(run_id)
    except broker.NotParkedError:
        messages.error(request, _("It is not parked: somebody has released it, or it never was."))
    except BrokerUnavailableError:
        messages.error(request, _("The broker is unavailable, nothing was started."))
    else:
        history.note(request.user, run_id, history.RELEASED)
        messages.success(request, _("Released: it waits in its queue again, and its state changes when it starts."))
    return redirect("celeriac:run", run_id)
