"""Workers of the test project, what is sent to them, and what becomes of it."""

import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import redis as redis_client
from celery import Celery
from supervised import Supervised, supervised
from testkit.rabbitmq import RabbitMQ
from testkit.redis import Redis

POOLS = pytest.mark.parametrize("pool", ["prefork", "threads"])

_names = itertools.count(1)


@contextmanager
def worker(environment: dict[str, str], *arguments: str, mingle: bool = False) -> Iterator[Supervised]:
    """Run a worker of the test project; two processes and no queue but the default one.

    Args:
        environment: its whole environment.
        arguments: more options of ``celery worker``; they win over those given here.
        mingle: it asks the other workers what is revoked, as those of a deployed site do.
    """
    options = ["--concurrency=2", f"--hostname=worker-{next(_names)}@%h", "--loglevel=INFO"]
    quiet = ["--without-gossip", *([] if mingle else ["--without-mingle"])]
    command = ["-A", "celeriac.app", "worker", *options, *quiet, *arguments]
    with supervised("celeriac.celery", *command, environment=environment) as running:
        yield running


class Unit:
    """A worker that is started again whenever it has ended, as systemd does.

    Attributes:
        running: the worker of now.
    """

    def __init__(self, stack: ExitStack, environment: dict[str, str], *arguments: str) -> None:
        self._next = stack, environment, arguments
        self.running = self._start()

    def _start(self) -> Supervised:
        stack, environment, arguments = self._next
        return stack.enter_context(worker(environment, *arguments))

    def restart_if_ended(self) -> bool:
        """Start another one if this one has ended, and end what is left of it; return whether it had."""
        has_ended = self.running.process.poll() is not None
        if has_ended:
            with suppress(ProcessLookupError):
                os.killpg(self.running.process.pid, signal.SIGKILL)
            self.running = self._start()
        return has_ended


def send(broker: Redis | RabbitMQ, name: str, *arguments: object, task: str = "sleep", **options: object) -> str:
    """Send a task of the module ``work.tasks``, or of any other by its full name; return its id.

    Args:
        broker: where it is put.
        name: by which it records itself.
        arguments: what else it takes.
        task: which one.
        options: for ``send_task``, such as a countdown.
    """
    full = task if "." in task else f"work.tasks.{task}"
    with Celery(broker=broker.url, set_as_current=False) as sender:
        sent = sender.send_task(full, (name, *arguments), **{"ignore_result": True, **options})
    return str(sent.id)


def fill(running: Supervised, broker: Redis, environment: dict[str, str], countdown: float) -> float:
    """Let a new worker hold a task, ``later``, and run one, ``long``; send it three more, 0 to 2.

    Args:
        running: the worker, with room for one task at a time.
        broker: its own.
        environment: its own.
        countdown: of the task that it holds, in seconds.

    Returns:
        The time.monotonic() before which it does not begin.
    """
    running.told("READY=1")
    due = time.monotonic() + countdown
    send(broker, "later", 0, countdown=countdown)
    running.waits(lambda: messages(broker) == (0, 1), "held task")
    send(broker, "long", task="wait_for_file")
    running.waits(lambda: record(environment) == ["began long"], "running task")
    for number in range(3):
        send(broker, f"{number}", 0)
    return due


def let_end(environment: dict[str, str], name: str) -> None:
    """Let a `wait_for_file` end."""
    (Path(environment["SCRATCH"]) / name).touch()


def record(environment: dict[str, str]) -> list[str]:
    """Return what the tasks recorded so far, such as ``began NAME`` and ``ended NAME``."""
    path = Path(environment["RECORD"])
    return path.read_text().splitlines() if path.exists() else []


def messages(broker: Redis, queue: str = "celery") -> tuple[int, int]:
    """Return how many messages wait in a queue, and how many of any some worker has not acked."""
    with redis_client.Redis.from_url(broker.url) as client:
        return client.llen(queue), client.hlen("unacked")
