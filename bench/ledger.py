"""The cost of the dispatch ledger: one site with it and one without, on a real Redis and PostgreSQL.

Both are the project of the runtime's tests, on this computer; PostgreSQL waits for the disk as it does on a host.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import redis as redis_client

from bench.timing import ROOT, MeasureError, Row, Run, tell

sys.path.insert(0, str(ROOT / "runtime" / "tests"))

from environment import empty_database, process_environment
from services import Redis, postgresql_server, redis_server
from workers import worker

TASKS = 4000
# Measured between these parts of the queue: the worker runs, and does not yet run dry.
FROM, TO = 0.9, 0.1
WITHIN_SECONDS = 120

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
    nothing.delay()
    taken.append(time.perf_counter() - began)
print(json.dumps(taken))
"""


def ledger(rounds: int) -> Row:
    """Take turns; return the time of a task in a busy worker, and in the notes the rest."""
    row = Row(unit="ms")
    enqueued: dict[str, list[float]] = {"ours": [], "reference": []}
    with _site() as (environment, redis):
        sides = [("ours", "celeriac.ledger", row.ours), ("reference", "", row.reference)]
        for number in range(1, rounds + 1):
            for side, apps, runs in sides:
                load = os.getloadavg()[0]
                with_apps = {**environment, "MORE_APPS": apps}
                enqueued[side].append(statistics.median(_enqueue(with_apps)))
                runs.append(Run(_seconds_a_task(with_apps, redis), load, ""))
                tell(
                    f"  {number}/{rounds} {side:<9} {1 / runs[-1].seconds:6.0f} tasks/s,"
                    f" {enqueued[side][-1] * 1000:.2f} ms an enqueue  (load {load:.1f})"
                )
            sides.reverse()
    rates = [1 / statistics.median(run.seconds for run in side) for side in (row.ours, row.reference)]
    times = [statistics.median(enqueued[side]) * 1000 for side in ("ours", "reference")]
    less, more = 100 * (1 - rates[0] / rates[1]), times[0] - times[1]
    row.notes += [
        f"tasks a second  {rates[0]:.0f} with, {rates[1]:.0f} without the ledger: {less:.0f} % less",
        f"an enqueue      {times[0]:.2f} ms with, {times[1]:.2f} ms without (medians): {more:.2f} ms more",
    ]
    return row


@contextlib.contextmanager
def _site() -> Iterator[tuple[dict[str, str], Redis]]:
    """Run the services; yield the environment of a process of the project, and the broker."""
    with redis_server() as redis, postgresql_server() as postgresql, TemporaryDirectory(prefix="celeriac-") as scratch:
        postgresql.stop()
        postgresql.start(fsync=True)  # as on a host
        environment = {
            **process_environment(Path(scratch), ROOT / "runtime" / "tests" / "project"),
            **empty_database(postgresql, "bench"),
            "BROKER_URL": redis.url,
        }
        _run([sys.executable, "-m", "django", "migrate", "-v0"], {**environment, "MORE_APPS": "celeriac.ledger"})
        yield environment, redis


def _enqueue(environment: dict[str, str]) -> list[float]:
    """Return the seconds that each of `TASKS` publications took, of the warm process."""
    found: list[float] = json.loads(_run([sys.executable, "-c", ENQUEUE, str(TASKS)], environment))
    return found[100:]


def _seconds_a_task(environment: dict[str, str], redis: Redis) -> float:
    """Have a worker empty the queue."""
    with redis_client.Redis.from_url(redis.url) as client, worker(environment, "--loglevel=WARNING") as running:
        moments: list[tuple[float, int]] = []
        deadline = time.monotonic() + WITHIN_SECONDS
        while (left := client.llen("celery")) > TO * TASKS:
            if left < FROM * TASKS:
                moments.append((time.monotonic(), left))
            if time.monotonic() > deadline:
                raise MeasureError(f"the queue was not emptied: {running.log.read_text()[-2000:]}")
            time.sleep(0.05)
        (began, first), (ended, last) = moments[0], moments[-1]
        running.waits(lambda: client.llen("celery") + client.hlen("unacked") == 0, "empty queue")
        running.stop()
    return (ended - began) / (first - last)


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasureError(f"{command[:3]} failed:\n{done.stderr[-4000:]}")
    return done.stdout
