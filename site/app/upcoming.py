"""When the periodic tasks are due next, by the tables in which beat finds them."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django_celery_beat.models import PeriodicTask

from app.schedules import next_due

logger = logging.getLogger(__name__)


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
    entries = PeriodicTask.objects.filter(enabled=True).select_related("interval", "crontab", "solar", "clocked")
    due = []
    for entry in entries:
        try:
            at = next_due(entry)
        except Exception:  # an entry without a schedule, or a crontab of a day that never comes
            logger.warning("It is not known when %s is due", entry.name, exc_info=True)
            continue
        if at is not None:
            # Schedules count in parts of a second, and are a little early.
            at = (at + timedelta(milliseconds=500)).replace(microsecond=0)
            due.append(Due(entry.name, entry.task, at))
    return sorted(due, key=lambda each: each.at)[:count]
