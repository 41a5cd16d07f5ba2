"""The schedule in the admin: when an entry is due, where it comes from, and a way to run it now."""

from datetime import datetime
from typing import Any

from celery import current_app
from django import forms
from django.contrib import admin, messages
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, QueryDict
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django_celery_beat.admin import CrontabScheduleAdmin, PeriodicTaskAdmin, PeriodicTaskForm
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from kombu.utils import json

from celeriac import clock, registry
from celeriac.enqueue import BrokerUnavailableError, send
from celeriac.ledger import permissions
from celeriac.ledger.publishing import SENT_BY
from celeriac.schedule import scheduler
from celeriac.schedule.models import ScheduleDefault

SKIPS = _("%s runs hourly or more often by a clock that is put back in autumn: it skips the hour that there is twice.")
INSTEAD = _(
    "What runs hourly or more often belongs in an interval, or in a crontab in UTC: in a zone with daylight-saving "
    "time a crontab skips the hour that there is twice in autumn. A daily one runs once on every day."
)


class ScheduleForm(PeriodicTaskForm):  # type: ignore[misc]
    """An entry of the schedule, refused when its task could not be called with these arguments."""

    # The library's help is about its own scale: here 9 is first on both brokers.
    priority = forms.IntegerField(
        min_value=0, max_value=9, required=False, help_text=_("0 to 9, 9 first; empty for the default.")
    )

    def clean(self) -> Any:
        """Ask the registry, for beat would only log each time that the task was not sent."""
        data = super().clean()
        if self.errors:
            return data
        args, kwargs = json.loads(data["args"]), json.loads(data["kwargs"])
        problems = _problems(args, kwargs)
        for field, problem in problems.items():
            self.add_error(field, problem)
        if not problems:
            self._ask_beat(data)
        if not problems and registry.is_ours(data["task"]):
            try:
                registry.check(data["task"], args, kwargs)
            except (registry.BadArgumentsError, registry.UnknownTaskError) as error:
                self.add_error("task" if isinstance(error, registry.UnknownTaskError) else "args", str(error))
        return data

    def _ask_beat(self, data: dict[str, Any]) -> None:
        """Refuse what beat could never send, at the schedule that makes it so."""
        chosen = [kind for kind in scheduler.KINDS if data.get(kind)]
        if len(chosen) == 1:  # another number is refused where the row is looked through
            fields = {field: data.get(field) for field in (*scheduler.KINDS, "args", "kwargs", "headers", "one_off")}
            fault = scheduler.fault(PeriodicTask(**fields, date_changed=clock.now()))
            if fault:
                self.add_error(chosen[0], gettext("This could never be sent: %s") % fault)


def _problems(args: Any, kwargs: Any) -> dict[str, str]:
    """Return why nothing can be called with these, by the field of an entry; nothing where it can."""
    problems = {}
    if not isinstance(args, list):
        problems["args"] = gettext('This is not a JSON list, such as [1, "two"].')
    if not isinstance(kwargs, dict):
        problems["kwargs"] = gettext('This is not a JSON object, such as {"one": 1}.')
    return problems


admin.site.unregister(PeriodicTask)


@admin.register(PeriodicTask)
class ScheduleAdmin(PeriodicTaskAdmin):  # type: ignore[misc]
    """Shows when an entry is due and where it comes from, and runs it now."""

    form = ScheduleForm
    list_display = ("name", "enabled", "schedule", "last_run_at", "next_run", "origin")
    list_filter = ()  # beside the table they leave no room for its last columns; the search finds tasks, too
    date_hierarchy = None
    # The library's adds a script inside the page, which the content security policy does not let run.
    change_form_template = None
    fieldsets = (
        *PeriodicTaskAdmin.fieldsets[:1],
        (PeriodicTaskAdmin.fieldsets[1][0], {**PeriodicTaskAdmin.fieldsets[1][1], "description": INSTEAD}),
        *PeriodicTaskAdmin.fieldsets[2:],
    )

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        """Bring along what the code says of each entry."""
        defaults = ScheduleDefault.objects.filter(name=OuterRef("name"))
        found: QuerySet[Any] = super().get_queryset(request)
        origin = {field: Subquery(defaults.values(field)[:1]) for field in ("definition", "removed")}
        annotated: QuerySet[Any] = found.annotate(**origin)
        return annotated

    def get_list_display(self, request: HttpRequest) -> Any:
        """Add where its runs are listed, for those who may see them in a project that has the console."""
        shown = (*super().get_list_display(request),)
        return (*shown, "runs") if _console() and permissions.may(request, permissions.VIEW) else shown

    @admin.display(description=_("Runs"))
    def runs(self, entry: Any) -> str:
        """Return a link to the runs that were sent for the entry."""
        query = QueryDict(mutable=True)
        query["entry"] = entry.name
        return format_html('<a href="{}?{}">{}</a>', _console(), query.urlencode(), _("Runs"))

    @admin.display(description=_("Schedule"))
    def schedule(self, entry: Any) -> str:
        """Return when it runs, a crontab in words."""
        return str(entry.crontab.human_readable if entry.crontab else entry.scheduler)

    @admin.display(description=_("Next run"))
    def next_run(self, entry: Any) -> datetime | str | None:
        """Return when beat sends it, or why it never can."""
        if entry.enabled and (fault := scheduler.fault(entry)):
            return gettext("cannot be sent: %s") % fault
        return scheduler.next_due(entry)

    @admin.display(description=_("From"))
    def origin(self, entry: Any) -> str:
        """Say where the entry comes from, and what was changed here."""
        if entry.definition is None:
            return str(_("made here"))
        if entry.removed:
            return str(_("gone from the code"))
        changed = scheduler.changed_here(entry, ScheduleDefault(definition=entry.definition))
        return _("the code, but for %s") % ", ".join(changed) if changed else str(_("the code"))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Keep the name of an entry of the code: under another one it would be there twice."""
        fields = super().get_readonly_fields(request, obj)
        return (*fields, "name") if _is_in_code(obj) else fields

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse for an entry of the code, which would come back: it is disabled instead."""
        return bool(super().has_delete_permission(request, obj)) and not _is_in_code(obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save it; warn of an hour that it will skip."""
        super().save_model(request, obj, form, change)
        _warn(request, obj.crontab)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Leave out those that somebody may not do who only looks; the library offers them to everybody."""
        actions: dict[str, Any] = super().get_actions(request)
        for name in ("enable_tasks", "disable_tasks", "toggle_tasks"):
            if not self.has_change_permission(request):
                actions.pop(name, None)
        return actions

    def has_start_permission(self, request: HttpRequest) -> bool:
        """Say whether somebody may send a task at once."""
        return permissions.may(request, permissions.START)

    @admin.action(description=_("Run now"), permissions=["start"])
    def run_tasks(self, request: HttpRequest, queryset: "QuerySet[Any]") -> None:
        """Send the chosen entries' tasks at once, in the name of who asks; their schedules stay as they are."""
        for entry in queryset:
            try:
                _run_now(entry, request.user.get_username())
            except BrokerUnavailableError:
                messages.error(request, _("The broker is unavailable, nothing was started."))
                return
            # The last three: a row that was not made here may hold anything.
            except (registry.UnknownTaskError, registry.BadArgumentsError, KeyError, TypeError, ValueError) as error:
                messages.error(request, f"{entry.name}: {error}")
            else:
                self.log_change(request, entry, "Run now.")
                messages.success(request, _("%s was started.") % entry.name)


admin.site.unregister(CrontabSchedule)


@admin.register(CrontabSchedule)
class CrontabAdmin(CrontabScheduleAdmin):  # type: ignore[misc]
    """Warns of a crontab that skips an hour."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save it; warn of an hour that it will skip."""
        super().save_model(request, obj, form, change)
        _warn(request, obj)


def _run_now(entry: Any, by: str) -> None:
    """Send the task of an entry as beat would, apart from the time and from who has sent it.

    Raises:
        celeriac.registry.UnknownTaskError, celeriac.registry.BadArgumentsError, KeyError, TypeError, ValueError: it
            cannot be.
        celeriac.enqueue.BrokerUnavailableError: nothing was sent.
    """
    args, kwargs, options = scheduler.as_beat_sends(entry)
    if problems := _problems(args, kwargs):
        raise registry.BadArgumentsError(problems)
    options["headers"][SENT_BY] = by
    task = None if registry.is_ours(entry.task) else current_app.tasks.get(entry.task)
    if task is None:
        registry.check(entry.task, args, kwargs)
        task = registry.task_named(entry.task)
    send(task, args, kwargs, **options)


def _console() -> str:
    """Return the address of the console's list of runs, "" where a project has none."""
    try:
        return reverse("celeriac:runs")
    except NoReverseMatch:
        return ""


def _is_in_code(entry: Any) -> bool:
    """Say whether the code has an entry now, None for a new one."""
    return entry is not None and ScheduleDefault.objects.filter(name=entry.name, removed=False).exists()


def _warn(request: HttpRequest, crontab: CrontabSchedule | None) -> None:
    if crontab is not None and scheduler.skips_an_hour(crontab):
        messages.warning(request, f"{SKIPS % crontab} {INSTEAD}")
