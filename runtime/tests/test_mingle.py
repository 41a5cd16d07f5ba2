"""A worker that starts learns what is revoked, and does not wait longer than for that."""

import re
from datetime import datetime
from pathlib import Path

import pytest
from celery import Celery
from supervised import Supervised
from testkit.redis import Redis
from workers import record, send, worker

# What Celery's own mingle takes each time: a second, and here so long that no slow computer does.
SECONDS = 30
LONG = f"""
from celery.app import control
_as_it_is = control.Inspect.__init__
def _long(self, *args, **options):
    _as_it_is(self, *args, **{{**options, "timeout": {SECONDS}}})
control.Inspect.__init__ = _long
"""


@pytest.fixture
def long_mingle(environment: dict[str, str], project: Path) -> dict[str, str]:
    """The environment of a project in which to ask other workers takes long."""
    with (project / "work" / "tasks.py").open("a") as module:
        module.write(LONG)
    return environment


def mingled(running: Supervised) -> float:
    """Return how long a worker mingled, in seconds."""
    log = running.log.read_text()
    lines = {
        what: re.search(rf"\[(\S+ \S+): INFO/MainProcess\] mingle: {what}", log)
        for what in ("searching", "(?:sync complete|all alone)")
    }
    began, ended = (datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f") for found in lines.values() if found)
    return (ended - began).total_seconds()


def test_the_first_worker_waits_for_nobody(long_mingle: dict[str, str], redis: Redis) -> None:
    with worker(long_mingle, mingle=True) as only:
        only.told("READY=1")
        assert mingled(only) < SECONDS


def test_a_new_worker_knows_what_is_revoked(long_mingle: dict[str, str], redis: Redis) -> None:
    with worker(long_mingle, mingle=True) as one, worker(long_mingle, mingle=True) as two:
        for old in (one, two):
            old.told("READY=1")
        with Celery(broker=redis.url, set_as_current=False) as sender:
            sender.control.revoke("revoked", reply=True, timeout=60, limit=2)
        with worker(long_mingle, mingle=True) as young:
            young.told("READY=1")
            assert "sync with 2 nodes" in young.log.read_text()
            assert mingled(young) < SECONDS
            one.stop()
            two.stop()
            send(redis, "revoked", 0, task_id="revoked")
            send(redis, "after", 0)
            young.waits(lambda: "ended after" in record(long_mingle), "executed task")
            assert "began revoked" not in record(long_mingle)


def test_a_dead_worker_is_waited_for_no_longer_than_ever(environment: dict[str, str], redis: Redis) -> None:
    with worker(environment, mingle=True) as dead:
        dead.told("READY=1")
    with worker(environment, mingle=True) as young:
        young.told("READY=1")
        assert mingled(young) < 10  # Celery's own second
