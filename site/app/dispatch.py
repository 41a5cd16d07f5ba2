"""What was sent: the project's rows of the journal (`celeriac.ledger`), and how long they are kept.

Celery keeps no list of what was sent, and django-celery-results stores arguments as a repr that is cut at a length.
The journal has the true ones, as the message has them, so that a task can be run again with the same.

The row is part of the caller's transaction, if there is one: what is rolled back was not sent (enqueue with
`delay_on_commit`, then nothing is sent either).
"""

from datetime import datetime, timedelta

from celeriac.ledger import retention
from celeriac.ledger.models import Dispatch
from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from app.models import Revocation


def ours() -> "QuerySet[Dispatch]":
    """Return what was sent of the project's own tasks; the journal also has Celery's."""
    return Dispatch.objects.exclude(name__startswith="celery.")


def prune(now: datetime | None = None) -> int:
    """Forget what is older than `RUNS_EXPIRE` or more than `RUNS_MAX`, and revocations as old.

    Args:
        now: the time, for tests.

    Returns:
        How many tasks were forgotten.
    """
    now = now or timezone.now()
    Revocation.objects.filter(revoked_at__lt=now - timedelta(seconds=settings.RUNS_EXPIRE)).delete()
    return retention.prune(now)
