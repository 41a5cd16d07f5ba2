"""The task that measures what the graphs show. The schedule sends it once a minute."""

from celery import Task, shared_task

from celeriac import clock
from celeriac.console import samples

MEASURE = "celeriac.measure"


# Nobody needs it in the journal, nor its result.
@shared_task(name=MEASURE, base=Task, soft_time_limit=20, time_limit=30, ignore_result=True, ledger=False)
def measure() -> int:
    """Measure; return how many numbers are new."""
    return samples.take(clock.now())
