"""Bounds the log of Django's admin, which nothing else deletes from.

==============================  ===================================================================
``CELERIAC_ADMIN_LOG_DAYS``     entries are forgotten after so many days
``CELERIAC_ADMIN_LOG_ROWS``     and of more than so many the oldest
==============================  ===================================================================

Where one is 0 or missing, nothing is forgotten by it.
"""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from celeriac import pruning


def model() -> Any:
    """Return the model of an entry; its module can be imported where the admin is installed."""
    from django.contrib.admin.models import LogEntry

    return LogEntry


def prune(now: datetime | None = None) -> int:
    """Delete entries, of which some may be left to the next call.

    Args:
        now: the time, for tests.

    Returns:
        How many were deleted.
    """
    days, rows = pruning.limit("CELERIAC_ADMIN_LOG_DAYS"), pruning.limit("CELERIAC_ADMIN_LOG_ROWS")
    return (_old((now or timezone.now()) - timedelta(days=days)) if days else 0) + (_too_many(rows) if rows else 0)


def _old(before: datetime) -> int:
    entries = model().objects.order_by("pk")
    first = entries.only("action_time").first()
    if first is None or first.action_time >= before:
        return 0
    # The time has no index: of a long table only the beginning is looked at.
    beginning = entries.filter(pk__lt=first.pk + pruning.BATCH * pruning.BATCHES)
    return pruning.delete(beginning.filter(action_time__lt=before))


def _too_many(rows: int) -> int:
    deleted = 0
    entries = model().objects.order_by("pk")
    for last_kept in entries.reverse().values_list("pk", flat=True)[rows - 1 : rows]:
        deleted += pruning.delete(entries.filter(pk__lt=last_kept))
    return deleted
