"""Tasks that end more than themselves, and some that send others."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from celery import chord, shared_task

from work.tasks import _record, sleep


def _gate(name: str) -> Path:
    return Path(os.environ["SCRATCH"]) / name


def _wait_for(name: str) -> None:
    while not _gate(name).exists():
        time.sleep(0.1)


def _end(how: str) -> None:
    match how:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exits at once":
            os._exit(1)
        case "exits":
            sys.exit(3)
        case "runs out of memory":
            raise MemoryError("a task wants too much")
        case "kills the worker":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)  # the supervisor ends what is left


@shared_task
def dies(name: str, how: str) -> None:
    """Die each time, as `how` says."""
    _record("began", name)
    _end(how)


@shared_task
def dies_once(name: str, how: str) -> str:
    """Die the first time."""
    _record("began", name)
    if not _gate(name).exists():
        _gate(name).touch()
        _end(how)
    _record("ended", name)
    return name


@shared_task
def dies_after_file(name: str) -> None:
    """Run until there is a file of this name, and be killed then, each time."""
    _record("began", name)
    _wait_for(name)
    _end("killed")


@shared_task
def which_worker(name: str) -> int:
    """Say which process is the worker that this runs in."""
    _record("parent", f"{name} {os.getppid()}")
    return os.getppid()


@shared_task(bind=True)
def retry_after_file(self: Any, name: str) -> None:
    """Run until there is a file of this name, and fail then; do nothing the second time."""
    _record("attempt", f"{name} {self.request.retries}")
    if self.request.retries:
        return
    _wait_for(name)
    raise self.retry(countdown=0)


@shared_task
def send_chord(name: str, how: str, body_id: str) -> None:
    """Send a chord of two, one of which dies each time; its body has the given id."""
    header = [sleep.s(f"{name} fine", 0), dies.s(f"{name} dies", how)]
    chord(header)(sleep.si(f"{name} body", 0).set(task_id=body_id))
