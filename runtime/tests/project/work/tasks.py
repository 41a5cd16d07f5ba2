"""Tasks whose doings a test can watch in a file, and commands that break a worker."""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty
from types import SimpleNamespace
from typing import Any

from celery import chord, shared_task
from celery.exceptions import Reject
from celery.worker.control import control_command
from django.db import transaction

from work.models import Note


def _record(word: str, name: str) -> None:
    with Path(os.environ["RECORD"]).open("a") as record:
        record.write(f"{word} {name}\n")


@shared_task
def sleep(name: str, seconds: float) -> str:
    """Take some time, and say when it began and ended."""
    _record("began", name)
    time.sleep(seconds)
    _record("ended", name)
    return name


@shared_task(ignore_result=True)
def nothing(*_: object) -> None:
    """Do nothing, as fast as can be, with whatever it is given."""


@shared_task(ignore_result=True)
def lag(sent: float) -> None:
    """Record how long ago, by time.monotonic(), it was sent."""
    _record("lag", f"{time.monotonic() - sent}")


@shared_task
def wait_for_file(name: str) -> None:
    """Run until there is a file of this name."""
    _record("began", name)
    while not (Path(os.environ["SCRATCH"]) / name).exists():
        time.sleep(0.1)
    _record("ended", name)


@shared_task
def gather(results: list[Any], name: str) -> None:
    """Say what a chord has handed over."""
    _record("gathered", f"{name} {results}")


@shared_task(ignore_result=True)
def send_chord(name: str) -> None:
    """Send a chord of two, one of which waits for a file ``gate``."""
    chord([sleep.s(name, 0), wait_for_file.s("gate")])(gather.s(name))


@shared_task(bind=True, max_retries=1)
def retry_once(self: Any, name: str, countdown: float, queue: str | None = "celery", times: int = 1) -> None:
    """Say which attempt it is, and fail the first; the next goes to a queue, or to the one that it came from."""
    _record("attempt", f"{name} {self.request.retries}")
    if self.request.retries < times:
        raise self.retry(countdown=countdown, queue=queue, max_retries=times)


@shared_task(bind=True)
def retry_with_a_lock(self: Any, name: str, lock: object = None) -> None:
    """Be tried again with what cannot be serialized."""
    _record("attempt", name)
    raise self.retry(args=(name, threading.Lock()), countdown=0)


@shared_task(bind=True)
def rejected(self: Any, name: str) -> None:
    """Be rejected by the project where it would be tried again."""
    _record("rejects", name)
    raise self.retry(exc=Reject(name), max_retries=0)


@shared_task
def fail(text: str) -> None:
    """Fail with these words."""
    raise ValueError(text)


@shared_task(acks_late=False)
def early(name: str, seconds: float) -> None:
    """Do what `sleep` does, acknowledged when it starts."""
    sleep(name, seconds)


@shared_task(keep_arguments=False)
def secret(name: str, seconds: float) -> None:
    """Do what `sleep` does, with arguments that nobody is to see."""
    sleep(name, seconds)


@shared_task(ledger=False)
def unnoted(name: str, seconds: float) -> None:
    """Do what `sleep` does, outside of the journal."""
    sleep(name, seconds)


@shared_task(bind=True)
def replaced(self: Any, name: str) -> None:
    """Say that it ran, and put another one in its place."""
    _record("replaced", name)
    self.replace(sleep.si(name, 0))


def send_in_transaction(name: str, fails: bool) -> list[str]:
    """Send two tasks in a transaction, one of them on commit; return their ids."""
    sent = []
    with suppress(ZeroDivisionError), transaction.atomic():
        Note.objects.create(text=name)
        sent.append(sleep.delay(f"{name} at once", 0).id)
        transaction.on_commit(lambda: sent.append(sleep.delay(f"{name} later", 0).id))
        1 / (not fails)
    return sent


@shared_task(rate_limit="1/h")
def once_an_hour(name: str) -> None:
    """Say that it ran."""
    _record("ended", name)


@control_command()
def wedge(state: Any) -> None:
    """Keep the worker's event loop from turning, for ever."""
    while True:
        time.sleep(1)


@control_command()
def lose_credit(state: Any) -> None:
    """Let the worker's consumer believe that it has all the messages it may have."""
    delivered = state.consumer.task_consumer.channel.qos._delivered
    delivered.update((f"ghost {number}", None) for number in range(100))


@control_command()
def lose_reply(state: Any) -> None:
    """Let the worker's consumer wait for an answer of Redis that it has already had."""
    channel = state.consumer.task_consumer.channel
    if channel._in_poll:
        with suppress(Empty):
            channel._brpop_read()
    channel._in_poll = SimpleNamespace(_sock=None)
