"""Forgets what is old, and what is more than is to be kept, in batches that lock little."""

import logging
import threading
import time
from datetime import datetime
from typing import Any

from django.db import connections
from django.db.models import Q, QuerySet
from django.utils import timezone

from celeriac import forks
from celeriac.ledger import settings
from celeriac.ledger.database import private_connection
from celeriac.ledger.models import Dispatch

BATCH = 1000
# In one call, and the time to the next: enough for some thousand tasks a second.
BATCHES = 200
PRUNE_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Pruning(threading.Thread):
    """Prunes again and again, in each worker: what another one has deleted is not there any more.

    Nobody waits for it when a worker ends. What it was about to delete stays.
    """

    def __init__(self) -> None:
        super().__init__(name="celeriac-ledger-retention", daemon=True)

    def run(self) -> None:
        """Prune, and after a failure begin anew the next time."""
        with private_connection(Dispatch):
            while True:
                with forks.turn():
                    try:
                        prune()
                    except Exception as error:
                        _log.warning("Old rows of the journal are not deleted: %r", error)
                        connections.close_all()  # those of this thread
                time.sleep(PRUNE_SECONDS)


def prune(now: datetime | None = None) -> int:
    """Delete rows, of which some may be left to the next call.

    What waits for a time to come stays, and so does, over the number, what has not ended.

    Args:
        now: the time, for tests.

    Returns:
        How many were deleted.
    """
    before = (now or timezone.now()) - settings.keep()
    old = Dispatch.objects.filter(Q(eta=None) | Q(eta__lt=before), sent_at__lt=before)
    deleted = _delete(old.order_by("sent_at").values_list("pk", flat=True))
    newest = Dispatch.objects.order_by("-pk").values_list("pk", flat=True)
    for pk in newest[settings.keep_rows() : settings.keep_rows() + 1]:
        too_many = Dispatch.objects.filter(pk__lte=pk).exclude(ended_at=None)
        deleted += _delete(too_many.order_by("pk").values_list("pk", flat=True))
    return deleted


def _delete(keys: "QuerySet[Dispatch, Any]") -> int:
    deleted = 0
    for _ in range(BATCHES):
        forks.rest()
        batch = [*keys[:BATCH]]
        if batch:
            deleted += Dispatch.objects.filter(pk__in=batch).delete()[0]
        if len(batch) < BATCH:
            break
    return deleted
