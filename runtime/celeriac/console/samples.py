"""What the graphs are drawn from: one number a minute, of each thing that is measured, for a day.

Flower has dropped its graphs, and Celery keeps no history: so a periodic task measures, and the last day
is kept in the database. The task waits in a queue itself: while no worker is free there is no number, which
a graph shows as a gap.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from celery import current_app
from django.db.models import Avg, Count, F, Max, Min, Q
from django.db.models.functions import TruncMinute
from django_celery_results.backends import DatabaseBackend
from django_celery_results.models import TaskResult

from celeriac import clock
from celeriac.broker import connect, waiting
from celeriac.console.models import Sample
from celeriac.ledger.models import Dispatch

KEPT = timedelta(hours=25)
MINUTE = timedelta(minutes=1)

# The names of the series; that of a queue stands behind QUEUE.
QUEUE = "queue:"
SUCCEEDED, FAILED = "succeeded", "failed"
SECONDS_MEAN, SECONDS_MAX = "seconds-mean", "seconds-max"

# The states of tasks that have ended and are counted.
COUNTED = ("SUCCESS", "FAILURE")

# Of so many that were sent last it is looked where they went.
LOOKED_AT = 1000


def take(now: datetime) -> int:
    """Measure, store, and forget what is older than a day; return how many numbers are new.

    Args:
        now: the minute to measure is the one that this lies in; ended tasks are counted up to the one before.
    """
    minute = clock.aware(now).astimezone(UTC).replace(second=0, microsecond=0)
    at = clock.stored(minute)
    samples = [Sample(minute=at, series=QUEUE + name, value=length) for name, length in queue_lengths().items()]
    if results_are_in_the_database():
        samples += ended_tasks(_first_uncounted(minute), minute)
    Sample.objects.bulk_create(samples, ignore_conflicts=True)
    Sample.objects.filter(minute__lt=clock.stored(minute - KEPT)).delete()
    return len(samples)


def queue_lengths() -> dict[str, int]:
    """Return how many tasks wait in each queue that is known, by its name.

    Tasks that a worker holds already (that run, or wait for their countdown) are in none.
    """
    with connect(current_app) as connection:
        return {name: waiting(connection, name) for name in sorted(_queues())}


def _queues() -> set[str]:
    """Return the queues that this process knows, and those of which it may not know: another worker has them.

    These are where something was sent lately, or was waiting in the last hour.
    """
    sent = Dispatch.objects.order_by("-pk").values_list("queue", flat=True)[:LOOKED_AT]
    an_hour_ago = clock.stored(clock.now() - timedelta(hours=1))
    waited = Sample.objects.filter(minute__gte=an_hour_ago, series__startswith=QUEUE, value__gt=0)
    series = waited.order_by().values_list("series", flat=True).distinct()
    return {*current_app.amqp.queues, *sent, *(name.removeprefix(QUEUE) for name in series)} - {""}


def results_are_in_the_database() -> bool:
    """Whether ended tasks can be counted; a result store other than the database cannot be asked that."""
    return isinstance(current_app.backend, DatabaseBackend)


def ended_tasks(first: datetime, until: datetime) -> Iterable[Sample]:
    """Yield, for each minute from `first` on and before `until`, how many tasks ended and how long they ran."""
    ended = (
        TaskResult.objects.filter(status__in=COUNTED, date_done__gte=clock.stored(first))
        .order_by()
        .annotate(minute=TruncMinute("date_done", tzinfo=UTC), ran=F("date_done") - F("date_started"))
        .values("minute")
        .annotate(
            succeeded=Count("pk", filter=Q(status="SUCCESS")),
            failed=Count("pk", filter=Q(status="FAILURE")),
            mean=Avg("ran"),
            longest=Max("ran"),
        )
    )
    found = {clock.aware(row["minute"]): row for row in ended}
    for number in range((until - first) // MINUTE):
        minute = first + number * MINUTE
        row, at = found.get(minute), clock.stored(minute)
        yield Sample(minute=at, series=SUCCEEDED, value=row["succeeded"] if row else 0)
        yield Sample(minute=at, series=FAILED, value=row["failed"] if row else 0)
        # None where no task had a start, as one that was killed before it was noted.
        if row and row["mean"] is not None:
            yield Sample(minute=at, series=SECONDS_MEAN, value=row["mean"].total_seconds())
            yield Sample(minute=at, series=SECONDS_MAX, value=row["longest"].total_seconds())


def _first_uncounted(minute: datetime) -> datetime:
    """Return the first minute whose ended tasks were not counted yet; a day back at most.

    Where nothing was counted yet, that in which the first task ended: before that there was nothing to count.
    """
    last: datetime | None = clock.aware(Sample.objects.filter(series=SUCCEEDED).aggregate(Max("minute"))["minute__max"])
    if last:
        return max(last + MINUTE, minute - KEPT)
    ended = TaskResult.objects.filter(status__in=COUNTED, date_done__gte=clock.stored(minute - KEPT))
    first: datetime | None = clock.aware(ended.aggregate(Min("date_done"))["date_done__min"])
    return min(first.astimezone(UTC).replace(second=0, microsecond=0), minute) if first else minute - MINUTE
