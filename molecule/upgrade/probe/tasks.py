"""Tasks that write down that they were executed. The first argument is what the test calls the execution."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from celery import shared_task
from django.db import InterfaceError, OperationalError

from .models import Run, note

LAST_SECOND = 1.0
PAUSE = 0.2


# No results: the rows say more, and a task of a minute would need no longer to be stored.
@shared_task(bind=True, name="probe.quick", ignore_result=True, max_retries=None)
def quick(self: Any, name: str, seconds: float = 0) -> None:
    """Sleep, and write it down, with when it would have expired: that tells when it was sent.

    Where the database is away, it is tried again until it is not.
    """
    time.sleep(seconds)
    try:
        note(self.request.id, name, str(self.request.expires or ""))
    except (OperationalError, InterfaceError) as error:
        raise self.retry(exc=error, countdown=1) from error


@shared_task(name="probe.mail", queue="mail")
def mail() -> None:
    """Be a reason for a pool of its own."""


@shared_task(name="probe.deadly", ignore_result=True)
def deadly() -> None:
    """End the worker, each time."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


@shared_task(bind=True, name="probe.long", ignore_result=True)
def long(self: Any, name: str, seconds: float, word: str) -> None:
    """Sleep, and on until the word is given; import a module for the first time in the last second.

    Args:
        self: the task.
        name: what the test calls it.
        seconds: the least that it takes.
        word: name of the execution after which it may end.
    """
    note(self.request.id, f"{name} started")
    time.sleep(seconds - LAST_SECOND)
    while not Run.objects.filter(name=word).exists():
        time.sleep(PAUSE)
    time.sleep(LAST_SECOND / 2)
    from .late import MARKER

    time.sleep(LAST_SECOND / 2)
    note(self.request.id, name, MARKER)
