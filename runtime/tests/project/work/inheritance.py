"""A journal that works nearly all the time, and a task that sees what its process inherits."""

import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from celery import shared_task

from celeriac import pruning
from celeriac.ledger import recorder, retention
from work.tasks import sleep

LOCKS = {"recorder": threading.Lock(), "retention": threading.Lock()}


def _slowly(name: str, work: Callable[..., None]) -> Callable[..., None]:
    @wraps(work)
    def slow(*arguments: Any) -> None:
        work(*arguments)  # with rests in between
        with LOCKS[name]:
            time.sleep(0.05)

    return slow


recorder.FLUSH_SECONDS = 0.01
recorder.Recorder.flush = _slowly("recorder", recorder.Recorder.flush)  # type: ignore[method-assign]
pruning.PRUNE_SECONDS = 0.01
retention.prune = _slowly("retention", retention.prune)


@shared_task
def inherited() -> None:
    """Record as ended which locks are locked here, where no thread can have them."""
    sleep(" ".join(name for name, lock in LOCKS.items() if lock.locked()) or "nothing", 0)
