"""The journal in numbers, for a status, for metrics and for a console."""

from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.db.models import Min, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from celeriac import clock
from celeriac.entries import enabled, fault, schedule
from celeriac.ledger.models import NOT_MARKED, NOT_NOTED, Counter, Dispatch

# What is counted since the journal is there.
COUNTERS = {
    NOT_NOTED: "publications whose row could not be written",
    NOT_MARKED: "starts and ends that no row could take",
}

# So late an entry may be: a deploy stops one beat before it starts the next.
LATE = timedelta(seconds=60)


def report() -> dict[str, Any]:
    """Return every number at once.

    Returns:
        The counters by their names (`COUNTERS`), and beside them

        * ``open``: tasks that have not ended, as far as is known,
        * ``doubled``: starts of one publication over the first, of the rows that are kept,
        * ``never_ended``: tasks that should have, by their time limits,
        * ``beat_is_late``: entries of the schedule that are due, and were not sent, by name.
    """
    found = dict(Counter.objects.values_list("name", "value"))
    doubled = Dispatch.objects.filter(starts__gt=1)
    return {
        **{name: found.get(name, 0) for name in COUNTERS},
        "open": Dispatch.objects.filter(ended_at=None).count(),
        "doubled": (doubled.aggregate(sum=Sum("starts"))["sum"] or 0) - doubled.count(),
        "never_ended": never_ended().count(),
        "beat_is_late": beat_is_late(),
    }


def never_ended() -> "QuerySet[Dispatch]":
    """Return the tasks that started and should have ended, by their time limits, and did not."""
    return Dispatch.objects.filter(ended_at=None, overdue_at__lt=timezone.now())


def oldest_waiting() -> dict[str, float]:
    """Return for how long the oldest task of each queue has waited that is due and has not started, in seconds."""
    now = timezone.now()
    waits = Dispatch.objects.filter(Q(eta=None) | Q(eta__lte=now), ended_at=None, started_at=None, queue__gt="")
    since = waits.order_by().values_list("queue").annotate(since=Min(Coalesce("eta", "sent_at")))
    return {queue: max((now - oldest).total_seconds(), 0.0) for queue, oldest in since}


def beat_is_late(now: datetime | None = None) -> list[str]:
    """Return the names of the entries that beat should have sent by now (`LATE`), and did not.

    Args:
        now: the time, for tests.
    """
    if not apps.is_installed("django_celery_beat"):
        return []
    from django_celery_beat.models import PeriodicTask

    now = now or clock.now()
    late = []
    for entry in enabled(PeriodicTask.objects.enabled, PeriodicTask):
        if fault(entry, lambda row: _due(row, now)):
            continue  # beat names it, and never sends it
        # One that has never run counts from when it was last changed.
        last = clock.aware(entry.last_run_at or entry.date_changed)
        begins, expires = clock.aware(entry.start_time), clock.aware(entry.expires)
        begun = begins is None or begins <= now
        over = expires is not None and expires <= now
        if last is not None and begun and not over and _due(entry, last) < now - LATE:
            late.append(entry.name)
    return sorted(late)


def _due(entry: Any, last: datetime) -> datetime:
    """Return when an entry is due after its last run."""
    due = schedule(entry)
    # Celery counts from its own clock; what is left by that is the same by ours.
    left: timedelta = due.remaining_estimate(due.maybe_make_aware(last))
    return clock.now() + left
