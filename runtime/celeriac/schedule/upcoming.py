"""When the periodic tasks are due next, by the tables in which beat finds them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django_celery_beat.models import PeriodicTask

from celeriac.entries import enabled
from celeriac.schedule.scheduler import fault, next_due


@dataclass(frozen=True)
class Due:
    """A periodic task, and when it is sent next.

    Attributes:
        name: of the entry.
        task: that is sent.
        at: the time; now where it is overdue, because beat is late or does not run.
    """

    name: str
    task: str
    at: datetime


def upcoming(count: int = 5) -> list[Due]:
    """Return the periodic tasks that are due next, the first one first."""
    due = []
    rows = PeriodicTask.objects.filter(enabled=True).select_related("interval", "crontab", "solar", "clocked")
    for entry in enabled(lambda: rows, PeriodicTask):
        if fault(entry):
            continue  # beat names it, and the admin
        at = next_due(entry)
        if at is not None:
            # Schedules count in parts of a second, and are a little early.
            at = (at + timedelta(milliseconds=500)).replace(microsecond=0)
            due.append(Due(entry.name, entry.task, at))
    return sorted(due, key=lambda each: each.at)[:count]
