"""What would grow without end is pruned, in batches that lock little.

A worker does it once a minute, in a thread beside its event loop: with the results and the admin's
log (`celeriac.worker.pruning`), and with the journal (`celeriac.ledger.retention`).
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import Model, QuerySet

from celeriac import forks
from celeriac.postgresql import private_connection

BATCH = 1000
# In one call, and the time to the next: enough for some thousand tasks a second.
BATCHES = 200
PRUNE_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Job(NamedTuple):
    """Something to be pruned.

    Attributes:
        what: it is, for the log.
        model: in whose database it is.
        prune: deletes some of it.
    """

    what: str
    model: type[Model]
    prune: Callable[[], object]


class PruningThread(threading.Thread):
    """Prunes again and again, in each worker: what another one has deleted is not there any more.

    Nobody waits for it when a worker ends. What it was about to delete stays. Between two times it
    has no connection.

    Args:
        jobs: what it does, one after the other.
    """

    def __init__(self, *jobs: Job) -> None:
        super().__init__(name="celeriac-pruning", daemon=True)
        self._jobs = jobs

    def run(self) -> None:
        """Prune, and after a failure begin anew the next time."""
        with ExitStack() as stack:
            for job in self._jobs:
                stack.enter_context(private_connection(job.model))
            while True:
                for job in self._jobs:
                    with forks.turn():
                        try:
                            job.prune()
                        except Exception as error:
                            _log.warning("Old rows of %s are not deleted: %r", job.what, error)
                        connections.close_all()  # those of this thread
                time.sleep(PRUNE_SECONDS)


def limit(name: str) -> int:
    """Return a limit from the environment; 0 if there is none."""
    return int(os.environ.get(name) or 0)


def delete(
    rows: "QuerySet[Any]",
    key: str = "pk",
    spared: Callable[[], Collection[object]] = frozenset,
) -> int:
    """Delete rows in batches, the first ones first; what is too much for one call is left.

    Args:
        rows: those that may go, in an order. One that does not belong to them any more when it is
            about to be deleted, since somebody has written to it, stays.
        key: the field by which rows are spared.
        spared: says of which values rows stay; it is asked anew for each batch.

    Returns:
        How many were deleted, with those that depend on them.
    """
    deleted = stay = 0
    for _ in range(BATCHES):
        forks.rest()
        batch = [*rows.values_list("pk", key)[stay : stay + BATCH]]
        keep = spared() if batch else ()
        going = [pk for pk, value in batch if value not in keep]
        if going:
            deleted += rows.filter(pk__in=going).order_by().delete()[0]
        stay += len(batch) - len(going)
        if len(batch) < BATCH:
            break
    return deleted
