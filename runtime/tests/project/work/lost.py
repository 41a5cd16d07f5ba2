"""Tasks that take their process with them."""

import os
import signal
import sys
import time
from pathlib import Path

from celery import shared_task

from work.tasks import _record


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


@shared_task
def dies(name: str, how: str) -> None:
    """End as `how` says, each time."""
    _record("began", name)
    _end(how)


@shared_task
def dies_once(name: str, how: str) -> str:
    """End as `how` says, the first time."""
    _record("began", name)
    there = Path(os.environ["SCRATCH"]) / f"died-{name}"
    if not there.exists():
        there.touch()
        _end(how)
    _record("ended", name)
    return name


@shared_task
def dies_after_file(name: str) -> None:
    """Run until there is a file of this name, and be killed then, each time."""
    _record("began", name)
    while not (Path(os.environ["SCRATCH"]) / name).exists():
        time.sleep(0.1)
    _end("killed")
