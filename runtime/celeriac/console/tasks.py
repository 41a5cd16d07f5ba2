"""The console's own tasks, which the project's schedule sends: one each minute, the other each hour, say.

Each imports for itself what has models: of an app that is missing a check tells, which this is imported for.
"""

from celery import Task, shared_task

from celeriac import clock

MEASURE, PRUNE = "celeriac.measure", "celeriac.prune"


# Nobody needs them in the journal, nor their results.
@shared_task(name=MEASURE, base=Task, soft_time_limit=20, time_limit=30, ignore_result=True, ledger=False)
def measure() -> int:
    """Measure what the graphs show; return how many numbers are new."""
    from celeriac.console import samples

    return samples.take(clock.now())


@shared_task(name=PRUNE, base=Task, ignore_result=True, ledger=False)
def prune() -> int:
    """Forget tasks that were sent too long ago, or are too many; return how many."""
    from celeriac.console import revocations
    from celeriac.ledger import retention

    return retention.prune() + revocations.prune()
