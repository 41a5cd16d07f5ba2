"""What the tests of the transport for Redis share: a cruel network, and Redis seen from inside."""

import json
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis as redis_client
from celery import Celery
from supervised import Supervised
from testkit.redis import Redis

ONE = "--concurrency=1"
# In every message as kombu puts it into a list, and in nothing else that an idle worker is told.
A_MESSAGE = b"delivery_tag"


class Trap:
    """Passes bytes between its own port and another one, until the moment that a test waits for.

    Attributes:
        port: where it listens, on 127.0.0.1.
        sprung: is set when it has cut.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.sprung = threading.Event()
        self._at: tuple[str, bytes] | None = None
        self._then: Callable[[], object] = bool
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, moment: str, marker: bytes, then: Callable[[], object] = bool) -> None:
        """Cut the first connection that comes to a moment.

        Args:
            moment: "answer", which is withheld; "question", likewise; or "answered": the question
                is passed on, and its answer is withheld.
            marker: what is in this answer or question.
            then: is called before the cut; there is none if it returns something true.
        """
        self.sprung.clear()
        self._then, self._at = then, (moment, marker)

    def springs(self) -> None:
        """Wait until it has cut."""
        assert self.sprung.wait(60), "no connection came to the moment of the cut"

    def close(self) -> None:
        """Close everything."""
        for each in [self._listener, *self._ends]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        target = "127.0.0.1", self._target
        with suppress(OSError), client, socket.create_connection(target) as server:
            self._ends += [client, server]
            asked = False
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data, asks = source.recv(1 << 20), source is client
                    if not data:
                        return
                    if (asked and not asks) or self._is_at("question" if asks else "answer", data):
                        goes_on = self._then()
                        self.sprung.set()
                        if not goes_on:
                            return
                        asked = False
                    asked = asked or (asks and self._is_at("answered", data))
                    (server if asks else client).sendall(data)

    def _is_at(self, moment: str, data: bytes) -> bool:
        if self._at is None or self._at[0] != moment or self._at[1] not in data:
            return False
        self._at = None
        return True


@contextmanager
def trap(redis: Redis, environment: dict[str, str]) -> Iterator[tuple[Trap, dict[str, str]]]:
    """Run a trap before a Redis until the block ends; yield it, and the environment of a worker."""
    running = Trap(redis.port)
    try:
        yield running, {**environment, "BROKER_URL": f"redis://127.0.0.1:{running.port}/0"}
    finally:
        running.close()


def kill(running: Supervised) -> None:
    """Kill a worker with its pool, as systemd does."""
    os.killpg(running.process.pid, signal.SIGKILL)
    running.process.wait()


def configured(environment: dict[str, str], *, prefetch: int | None = None, **options: Any) -> dict[str, str]:
    """Return an environment in which workers are configured otherwise.

    Args:
        environment: theirs.
        prefetch: for how many tasks per process they take messages, if it is said.
        options: of their transport.
    """
    said = {} if prefetch is None else {"CELERY_WORKER_PREFETCH_MULTIPLIER": prefetch}
    settings = {**said, "CELERY_BROKER_TRANSPORT_OPTIONS": options}
    return {**environment, "MORE_SETTINGS": json.dumps(settings)}


@contextmanager
def sender(url: str, **options: Any) -> Iterator[Callable[..., None]]:
    """Yield what sends a task by name, as `workers.send` does, always over the same connection.

    Args:
        url: of the broker.
        options: of the transport, kombu's own.
    """
    with Celery(broker=url, set_as_current=False) as app:
        app.conf.broker_transport_options = options

        def send(name: str, *arguments: object, task: str = "sleep", **more: Any) -> None:
            full = f"work.tasks.{task}"
            app.send_task(full, (name, *arguments), ignore_result=True, **more)

        yield send


@contextmanager
def inside(redis: Redis) -> Iterator["redis_client.Redis"]:
    """Connect to a Redis as an onlooker."""
    with redis_client.Redis.from_url(redis.url, decode_responses=True) as client:
        yield client


def execute(client: Any, *command: object) -> Any:
    """Execute a command as it is written, and return the answer."""
    return client.execute_command(*command)


def queued(redis: Redis) -> list[str]:
    """Return the tags of what waits in the queue, what comes first before the rest."""
    with inside(redis) as client:
        waiting = reversed(client.lrange("celery", 0, -1))
    return [json.loads(each)["properties"]["delivery_tag"] for each in waiting]


def taken(redis: Redis) -> list[str]:
    """Return the tags of what is taken and not acknowledged."""
    with inside(redis) as client:
        return [str(tag) for tag in client.hkeys("unacked")]


def calls(redis: Redis, command: str) -> int:
    """Return how often a command was executed, in scripts too, since the statistics began.

    Args:
        redis: where.
        command: in small letters.
    """
    with inside(redis) as client:
        return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


def names(record: list[str], word: str) -> list[str]:
    """Return the names of tasks that recorded a word, such as ``began``, in their order."""
    return [line.removeprefix(f"{word} ") for line in record if line.startswith(f"{word} ")]
