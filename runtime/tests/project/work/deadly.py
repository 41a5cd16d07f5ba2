"""Tasks that end more than themselves, and some that send others."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from celery import Task, chain, chord, group, shared_task
from celery.signals import before_task_publish

from work.tasks import _record, sleep, wait_for_file


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


class DyingAfterwards(Task):  # type: ignore[type-arg]  # takes none when it runs
    """A task whose worker is killed the first time, between its result and its acknowledgement."""

    def after_return(self, *_: Any) -> None:
        """Kill the worker."""
        name = self.request.args[0]
        if not _gate(name).exists():
            _gate(name).touch()
            _end("kills the worker")


@shared_task(base=DyingAfterwards)
def ends_twice(name: str) -> str:
    """Come to an end twice."""
    _record("ended", name)
    return name


@shared_task(base=DyingAfterwards)
def fails_twice(name: str) -> None:
    """Fail twice."""
    _record("failed", name)
    raise ValueError(name)


@shared_task
def heard(_: Any, name: str) -> None:
    """Say that what was before it has ended."""
    _record("heard", name)


@before_task_publish.connect
def _die_while_publishing(sender: str, body: Any, **_: Any) -> None:
    """Kill the worker the first time that a `heard` is sent whose name asks for it."""
    name = body[0][-1] if sender == "work.deadly.heard" else ""
    if "unsent" in str(name) and not _gate(name).exists():
        _gate(name).touch()
        _end("kills the worker")


@shared_task
def send_twice(kind: str) -> None:
    """Send what is built of a task that runs twice; `heard` says that it went on."""
    after = heard.s(kind)
    match kind:
        case "chord":
            chord([ends_twice.s("twice"), wait_for_file.s("gate")])(after)
        case "chord unsent":
            chord([sleep.s("one", 0), sleep.s("two", 0)])(after)
        case "chord of a failure":
            chord([fails_twice.s("twice"), wait_for_file.s("gate")])(sleep.s("never", 0).on_error(heard.si(None, kind)))
        case "chain":
            chain(ends_twice.s("twice"), after).delay()
        case "group":
            first = ends_twice.s("twice").set(link=after)
            group(first, sleep.s("beside", 0)).delay()
        case "link_error":
            fails_twice.apply_async(("twice",), link_error=heard.si(None, kind))
