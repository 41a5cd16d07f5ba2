"""The project of the runtime's tests, run on this computer: teams of its workers, and what a team does with a queue.

Each team has a Redis of its own. Teams that are compared therefore stay up side by side: an idle one asks its Redis
once a second, and its start is in no figure.
"""

from __future__ import annotations

import contextlib
import json
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import redis as redis_client
from celery import Celery

from bench.timing import ROOT, MeasureError

sys.path.insert(0, str(ROOT / "runtime" / "tests"))

from environment import PROJECT, empty_database, process_environment
from supervised import Supervised, supervised

from testkit.postgresql import postgresql_server
from testkit.redis import redis_server

# Of an environment in which a worker cannot import the runtime.
WITHOUT_RUNTIME = {"PYTHONPATH": str(PROJECT)}

# What the workers take from, and a list of messages that none of them looks at.
QUEUE, WAITING = "celery", "waiting"
# Runs in each worker before anything is measured: it has then imported, connected and compiled what it will need.
WARM_UP = 200
WITHIN_SECONDS = 120
# How exactly an end is seen. A turn takes half a second.
POLL_SECONDS = 0.005
# Between two publications to idle workers, in seconds: longer than what a task takes.
PAUSE = (0.01, 0.03)

# What a web process does, whose connection to the database is open.
ENQUEUE = """
import json, sys, time
import django
django.setup()
from django.db import connection
from demo.celery import app
from work.tasks import nothing
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
taken = []
for _ in range(int(sys.argv[1])):
    began = time.perf_counter()
    nothing.apply_async(queue=sys.argv[2])
    taken.append(time.perf_counter() - began)
print(json.dumps(taken))
"""


@dataclass(frozen=True)
class Spent:
    """What something took, or a clock and counters from which that is the difference.

    Attributes:
        seconds: wall time.
        main: CPU seconds of the workers' main processes.
        redis: CPU seconds of Redis.
        commands: how often Redis ran each, those inside of scripts too; without what this program asked.
        reads: how often Redis read from a connection: the round trips.
    """

    seconds: float
    main: float
    redis: float
    commands: Counter[str]
    reads: int

    def __sub__(self, earlier: Spent) -> Spent:
        """Return what was spent since."""
        return Spent(
            self.seconds - earlier.seconds,
            self.main - earlier.main,
            self.redis - earlier.redis,
            self.commands - earlier.commands,
            self.reads - earlier.reads,
        )


@dataclass
class Team:
    """Workers, and the Redis that only they use.

    Attributes:
        environment: of each worker.
        workers: they run.
        client: of their Redis.
        sender: a plain Celery app that sends to them.
    """

    environment: dict[str, str]
    workers: list[Supervised]
    client: redis_client.Redis
    sender: Celery
    _asked: Counter[str] = field(default_factory=Counter)

    def fill(self, count: int, *arguments: object) -> None:
        """Let copies of one message wait, each with an id of its own: hundreds of times as fast as sending them."""
        self.sender.send_task("work.tasks.nothing", arguments, queue=WAITING, ignore_result=True)
        text: Any = self.client.rpop(WAITING)
        message = json.loads(text)
        message["properties"]["delivery_info"]["routing_key"] = QUEUE
        pipe = self.client.pipeline(transaction=False)
        for _ in range(count):
            number = str(uuid4())
            message["headers"]["id"] = message["headers"]["root_id"] = number
            message["properties"]["delivery_tag"] = message["properties"]["correlation_id"] = number
            pipe.lpush(WAITING, json.dumps(message))
        pipe.execute()

    def enqueue(self, count: int) -> float:
        """Let a process of the project send tasks, to wait; return the median of the seconds that one took it."""
        taken: list[float] = json.loads(_python(self.environment, "-c", ENQUEUE, str(count), WAITING))
        return statistics.median(taken[100:])

    def work_off(self) -> Spent:
        """Give the workers all that waits, at once; return what it took until the last of it was acknowledged."""
        before = self._meter()
        self._ask("RENAME", WAITING, QUEUE)
        self._until(lambda: not self._ask("EXISTS", QUEUE, "unacked"), "empty queue")
        return self._meter() - before

    def lags(self, count: int, queues: list[str]) -> tuple[list[float], Spent]:
        """Send one task after the other to idle workers, to the queues in turn.

        Returns:
            The seconds from the publication of each to its first line, and what all of it took.
        """
        self._send_slowly(len(queues), queues)  # declares each
        before = self._meter()
        return self._send_slowly(count, queues), self._meter() - before

    def consume(self, *queues: str) -> None:
        """Let the workers take from more queues."""
        for queue in queues:
            self._tell("add_consumer", {"queue": queue}, within=10)

    def ready(self) -> None:
        """Wait until every worker takes tasks, and let them have some."""
        self._until(lambda: self._tell("ping", {}, within=2) == len(self.workers), "answer of each worker")
        self.fill(WARM_UP * len(self.workers))
        self.work_off()

    def _send_slowly(self, count: int, queues: list[str]) -> list[float]:
        record, pauses = Path(self.environment["RECORD"]), random.Random(1)
        record.write_text("")
        with self.sender.producer_pool.acquire(block=True) as producer:
            for number in range(count):
                time.sleep(pauses.uniform(*PAUSE))
                options = {"queue": queues[number % len(queues)], "producer": producer, "ignore_result": True}
                self._asked["lpush"] += 1
                self.sender.send_task("work.tasks.lag", (time.monotonic(),), **options)
        self._until(lambda: record.read_text().count("\n") == count, "tasks executed")
        self._until(lambda: not self._ask("EXISTS", "unacked"), "acknowledgements")
        return [float(line.split()[1]) for line in record.read_text().splitlines()]

    def _tell(self, command: str, arguments: Mapping[str, object], within: float) -> int:
        """Give all workers a remote control command; return how many answer within some seconds."""
        options = {"arguments": arguments, "reply": True, "limit": len(self.workers), "timeout": within}
        return len(self.sender.control.broadcast(command, **options))

    def _ask(self, command: str, *arguments: str) -> Any:
        """Ask Redis what the workers are not to be charged with."""
        self._asked[command.lower()] += 1
        return self.client.execute_command(command, *arguments)  # type: ignore[no-untyped-call]

    def _meter(self) -> Spent:
        info = self._ask("INFO", "all")
        calls = {name.removeprefix("cmdstat_"): told["calls"] for name, told in info.items() if "cmdstat_" in name}
        return Spent(
            seconds=time.monotonic(),
            main=sum(_cpu_seconds(each.process.pid) for each in self.workers),
            redis=info["used_cpu_user"] + info["used_cpu_sys"],
            commands=Counter(calls) - self._asked,
            reads=info["total_reads_processed"] - self._asked.total(),
        )

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition as long as all workers live. A finer clock than `Supervised.waits` has."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while not condition():
            ended = [each for each in self.workers if each.process.poll() is not None]
            if ended or time.monotonic() > deadline:
                log = (ended or self.workers)[0].log.read_text()[-2000:]
                raise MeasureError(f"no {what}{' before a worker ended' if ended else ' in time'}: {log}")
            time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def site() -> Iterator[dict[str, str]]:
    """Run a PostgreSQL that waits for the disk, as on a host; yield the environment of a process of the project."""
    with postgresql_server() as postgresql, TemporaryDirectory(prefix="celeriac-") as scratch:
        postgresql.stop()
        postgresql.start(fsync=True)
        environment = {**process_environment(Path(scratch), PROJECT), **empty_database(postgresql, "bench")}
        _python({**environment, "MORE_APPS": "celeriac.ledger"}, "-m", "django", "migrate", "-v0")
        yield environment


@contextlib.contextmanager
def at_work(environment: Mapping[str, str], app: str = "celeriac.app", workers: int = 1) -> Iterator[Team]:
    """Run workers with two processes each until the block ends, and wait until they are at work.

    Args:
        environment: of a process of the project.
        app: what `celery` is to load.
        workers: how many.
    """
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(redis_server())
        client = stack.enter_context(redis_client.Redis.from_url(redis.url))
        sender = stack.enter_context(Celery(broker=redis.url, set_as_current=False))
        of_each = {**environment, "BROKER_URL": redis.url}
        command = ["-A", app, "worker", "--concurrency=2", "--loglevel=WARNING", "--without-gossip", "--without-mingle"]
        running = [
            stack.enter_context(supervised("celery", *command, f"--hostname=worker-{number}@%h", environment=of_each))
            for number in range(workers)
        ]
        found = Team(of_each, running, client, sender)
        found.ready()
        yield found


def _cpu_seconds(pid: int) -> float:
    """Return what all threads of a process have used, to the nanosecond, without its children.

    Source: clock_getcpuclockid(3), which Python lacks; on Linux the clock's number is made of the process id.
    """
    return time.clock_gettime(~pid << 3 | 2)


def _python(environment: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasureError(f"{command[:3]} failed:\n{done.stderr[-4000:]}")
    return done.stdout
