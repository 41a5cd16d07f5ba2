"""The schedule: what the code says are defaults, what an operator changed in the admin stays.

django-celery-beat writes the entries of `beat_schedule` over those in the database each time beat starts, and leaves
the ones that are gone from the code running. Here the scheduler merges them instead, field by field: a field of the
row that still is as the code last wrote it follows the code, every other one is the operator's.

**When.** As beat begins to send, and at no other moment. On a host that is when it takes over from the beat of the
release before: one that stands by writes nothing, and a release that is undone leaves nothing behind, because the beat
of the older one takes over in its turn, and merges its own code.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from celery.schedules import crontab
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django_celery_beat import schedulers
from django_celery_beat.models import CrontabSchedule, PeriodicTask, PeriodicTasks
from kombu.utils import json

from celeriac import clock, entries
from celeriac.schedule.models import ScheduleDefault

# Four fields of which one is set: when the entry is due.
KINDS = ("interval", "crontab", "solar", "clocked")

REMOVED = "Not in the code any more, and so disabled."


class ModelEntry(entries.Zoned, schedulers.ModelEntry):  # type: ignore[misc]  # publishes no types
    """An entry, merged from the code and what is in the database."""

    @classmethod
    def from_entry(cls, name: str, app: Any = None, **entry: Any) -> "ModelEntry":
        """Return an entry of `beat_schedule` as it shall run; the stock one overwrites the row."""
        if (schedule := entry.get("schedule")) is not None:
            entry["schedule"] = _without_skipped_hour(schedule)
        return cls(merge(name, cls._unpack_fields(**entry)), app=app)


class DatabaseScheduler(schedulers.DatabaseScheduler):  # type: ignore[misc]
    """django-celery-beat's scheduler, to which the entries of the code are defaults.

    On a host it lies under that of the deployment, which adds the lease: one beat of a site sends.
    """

    Entry = ModelEntry

    def setup_schedule(self) -> None:
        """Merge the entries of the code into the database, Celery's own clean-up of results too."""
        self._in_code: set[str] = set()
        super().setup_schedule()
        disable_all_but(self._in_code)
        self._schedule = self.all_as_schedule()

    def update_from_dict(self, mapping: Mapping[str, Any]) -> None:
        """Merge some entries. One that cannot be is logged, and counts as one of the code."""
        self._in_code.update(mapping)
        super().update_from_dict(mapping)


def merge(name: str, fields: Mapping[str, Any]) -> PeriodicTask:
    """Bring an entry of the code into the database, without undoing what was changed there.

    Args:
        name: of the entry.
        fields: of `PeriodicTask`, as the code has them.

    Returns:
        The row as it is then.
    """
    fields = {**_defaults(), **fields}
    ours = _plain(fields)
    with transaction.atomic():
        default = ScheduleDefault.objects.filter(name=name).first() or ScheduleDefault(name=name, definition=ours)
        row = PeriodicTask.objects.select_for_update().filter(name=name).first()
        if row is None:  # new, or deleted by other means than the admin, which does not offer it
            row = PeriodicTask.objects.create(name=name, **fields)
        else:
            if default.disabled:  # by us
                row.enabled = True
            if default.removed:
                row.description = row.description.replace(REMOVED, "").strip()
            theirs = _plain({field: getattr(row, field) for field in fields})
            untouched = {field for field, value in theirs.items() if value == default.definition.get(field, value)}
            follow = {field for field in untouched if theirs[field] != ours[field]}
            for field in fields:
                if ("schedule" if field in KINDS else field) in follow:
                    setattr(row, field, fields[field])
            if follow or default.removed:  # beat takes a row that is written for one that was changed
                row.save()
        if default.pk is None or default.removed or default.definition != ours:
            default.definition, default.removed, default.disabled = ours, False, False
            default.save()
    return row


def disable_all_but(in_code: set[str]) -> None:
    """Disable the entries that the code had once and has no more, and say so in their description.

    Once: who enables one again in the admin is not contradicted at the next start.
    """
    for default in ScheduleDefault.objects.filter(removed=False).exclude(name__in=in_code):
        with transaction.atomic():
            row = PeriodicTask.objects.select_for_update().filter(name=default.name).first()
            default.removed, default.disabled = True, row is not None and row.enabled
            if row is not None:
                row.enabled = False
                row.description = f"{REMOVED}\n{row.description}".strip()
                _save(row)
            default.save()


def _save(row: PeriodicTask) -> None:
    """Write a row that may hold anything: the library's own `save` refuses one with no schedule, or with two."""
    try:
        row.save()
    except ValidationError:
        PeriodicTask.objects.filter(pk=row.pk).update(enabled=row.enabled, description=row.description)
        PeriodicTasks.update_changed()


def changed_here(row: PeriodicTask, default: ScheduleDefault) -> list[str]:
    """Return the names of the fields that differ from the code, "schedule" for when it is due."""
    theirs = _plain({field: getattr(row, field) for field in _defaults()})
    return sorted(field for field, value in theirs.items() if value != default.definition.get(field, value))


def next_due(row: PeriodicTask) -> datetime | None:
    """Return when beat sends an entry next: now for one that is due, None for one that never is.

    The same schedule answers that beat asks, so a run that was missed too long ago to be made up for is not promised.
    """
    now = timezone.localtime(clock.now())
    begins, expires = clock.aware(row.start_time), clock.aware(row.expires)
    if not row.enabled or (expires and expires <= now) or (row.one_off and row.total_run_count):
        return None
    if begins and begins > now:
        start: datetime = clock.aware(row.due_start_time(timezone.get_default_timezone()))
        return start
    due, seconds = entries.schedule(row).is_due(clock.aware(row.last_run_at or row.date_changed))
    if due:
        return now
    # To the second: the time that is left was counted a moment later than `now`.
    return (now + timedelta(seconds=seconds, milliseconds=500)).replace(microsecond=0)


def fault(row: PeriodicTask) -> str:
    """Return why beat can never send an entry, "" where it can."""
    return entries.fault(row, next_due)


def as_beat_sends(row: PeriodicTask) -> tuple[Any, Any, dict[str, Any]]:
    """Return with what beat sends the task of an entry: args, kwargs, and options of `apply_async`.

    The day after which beat does not send it any more is no end for what is sent by hand later: a worker would drop it.

    Raises:
        TypeError, ValueError: the row was not made in the admin, and is not what it has to be.
    """
    # First, for an entry of beat whose arguments are no JSON disables its row.
    args, kwargs = json.loads(row.args or "[]"), json.loads(row.kwargs or "{}")
    options = dict(ModelEntry(row).options)
    if row.expires and clock.aware(row.expires) <= clock.now():
        del options["expires"]
    # Celery's scheduler adds this as it sends.
    options["headers"] = {**options["headers"], "celery_beat_task": True}
    return args, kwargs, options


def skips_an_hour(crontab: CrontabSchedule) -> bool:
    """Say whether an entry runs hourly or more often by the clock of a place that changes it.

    On the day in autumn that has an hour twice it would not run in the second one.
    """
    hours: set[int] = crontab.schedule.hour
    return changes_its_clock(crontab.timezone) and any((hour + 1) % 24 in hours for hour in hours)


def changes_its_clock(zone: tzinfo) -> bool:
    """Say whether a zone has daylight-saving time this year."""
    return len(_offsets(zone)) > 1


def _defaults() -> dict[str, Any]:
    """Return what the fields of an entry are unless somebody says otherwise; runs and dates are not among them."""
    fields = [field for field in PeriodicTask._meta.concrete_fields if field.editable and not field.primary_key]
    return {field.name: field.get_default() for field in fields if field.name != "name"}


def _offsets(zone: tzinfo) -> set[timedelta | None]:
    """Return the offsets from UTC that a zone has this year."""
    year = clock.now().year
    return {datetime(year, month, 15, tzinfo=zone).utcoffset() for month in range(1, 13)}


def _without_skipped_hour(schedule: Any) -> Any:
    """Return a crontab of every hour of every day in UTC: the same moments, and none is skipped in autumn.

    Any other is returned as it is: one that asks for days or hours, and one of a place whose clock never changes, or
    differs from that of UTC by parts of an hour.
    """
    if not isinstance(schedule, crontab):
        return schedule
    row = CrontabSchedule.from_schedule(schedule)
    always = (row.hour, row.day_of_week, row.day_of_month, row.month_of_year) == ("*", "*", "*", "*")
    whole_hours = all(offset is not None and not offset % timedelta(hours=1) for offset in _offsets(row.timezone))
    if not (always and whole_hours and changes_its_clock(row.timezone)):
        return schedule
    return CrontabSchedule(minute=row.minute, timezone=ZoneInfo("UTC")).schedule


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of an entry as JSON can keep and compare them; the four kinds of schedule are one.

    A schedule is its values and not its key: in the admin the same row may be given another time.
    """
    kind, schedule = next(((kind, fields[kind]) for kind in KINDS if fields.get(kind)), ("", None))
    plain = {field: _text(value) for field, value in fields.items() if field not in KINDS}
    if schedule is not None:
        values = {
            field.name: _text(field.to_python(getattr(schedule, field.name)))
            for field in schedule._meta.concrete_fields
            if not field.primary_key
        }
        plain["schedule"] = {"kind": kind, **values}
    else:
        plain["schedule"] = None
    return plain


def _text(value: Any) -> Any:
    """Return what JSON has as it is, and anything else (a date, a zone) as text."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
