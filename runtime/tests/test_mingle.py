"""A worker that starts learns what is revoked, and does not wait longer than for that."""

import re
from datetime import datetime

from celery import Celery
from services import Redis
from supervised import Supervised
from workers import record, send, worker

# Celery's own mingle takes a second and more, each time.
QUICK_SECONDS = 0.9


def mingled(running: Supervised) -> float:
    """Return how long a worker mingled, in seconds."""
    log = running.log.read_text()
    lines = {
        what: re.search(rf"\[(\S+ \S+): INFO/MainProcess\] mingle: {what}", log)
        for what in ("searching", "(?:sync complete|all alone)")
    }
    began, ended = (
        datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f") for found in lines.values() if found
    )
    return (ended - began).total_seconds()


def test_the_first_worker_waits_for_nobody(environment: dict[str, str], redis: Redis) -> None:
    with worker(environment, mingle=True) as only:
        only.told("READY=1")
        assert mingled(only) < QUICK_SECONDS


def test_a_new_worker_knows_what_is_revoked(environment: dict[str, str], redis: Redis) -> None:
    with worker(environment, mingle=True) as one, worker(environment, mingle=True) as two:
        for old in (one, two):
            old.told("READY=1")
        with Celery(broker=redis.url, set_as_current=False) as sender:
            sender.control.revoke("revoked", reply=True, timeout=5, limit=2)
        with worker(environment, mingle=True) as young:
            young.told("READY=1")
            assert "sync with 2 nodes" in young.log.read_text()
            assert mingled(young) < QUICK_SECONDS
            one.stop()
            two.stop()
            send(redis, "revoked", 0, task_id="revoked")
            send(redis, "after", 0)
            young.waits(lambda: "ended after" in record(environment), "executed task")
            assert "began revoked" not in record(environment)


def test_a_dead_worker_is_waited_for_no_longer_than_ever(
    environment: dict[str, str], redis: Redis
) -> None:
    with worker(environment, mingle=True) as dead:
        dead.told("READY=1")
    with worker(environment, mingle=True) as young:
        young.told("READY=1")
        assert mingled(young) < 1 + QUICK_SECONDS
