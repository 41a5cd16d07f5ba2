"""Tasks whose doings a test can watch in a file, and commands that break a worker."""

import os
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty
from types import SimpleNamespace
from typing import Any

from celery import shared_task
from celery.worker.control import control_command


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
def nothing() -> None:
    """Do nothing, as fast as can be."""


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
