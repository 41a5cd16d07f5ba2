"""What becomes of a worker's messages when it loses Redis for a while."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from environment import children
from supervised import Supervised
from testkit.redis import Redis
from workers import POOLS, fill, let_end, messages, record, send, worker

ONE = "--concurrency=1"


@pytest.fixture
def kept_environment(environment: dict[str, str], kept_redis: Redis) -> dict[str, str]:
    """The environment of a worker that uses it."""
    return {**environment, "BROKER_URL": kept_redis.url}


@contextmanager
def away(redis: Redis, running: Supervised, times: int = 1) -> Iterator[None]:
    """Let a worker lose Redis until the block ends, and wait until it has it again.

    Args:
        redis: its broker.
        running: the worker.
        times: how often it has lost it then.
    """
    redis.stop()
    running.told("STATUS=waiting for the broker", times=times + 1)  # the first was at the start
    yield
    redis.start()
    running.told("STATUS=consuming", times=times + 1)


@POOLS
def test_a_task_that_runs_meanwhile_is_acknowledged_and_runs_once(
    kept_environment: dict[str, str], kept_redis: Redis, pool: str
) -> None:
    """One that ends before Redis is back, and one that ends later, over two such times.

    The worker could take one more: while it waits for a message, Celery by itself ends there.
    """
    with worker(kept_environment, "--concurrency=3", f"--pool={pool}") as only:
        only.told("READY=1")
        send(kept_redis, "short", task="wait_for_file")
        send(kept_redis, "long", task="wait_for_file")
        only.waits(lambda: len(record(kept_environment)) == 2, "running tasks")
        with away(kept_redis, only):
            let_end(kept_environment, "short")
            only.waits(lambda: "ended short" in record(kept_environment), "end")
        only.waits(lambda: messages(kept_redis) == (0, 1), "acknowledgement of what has ended")
        with away(kept_redis, only, times=2):
            pass
        assert messages(kept_redis) == (0, 1)
        let_end(kept_environment, "long")
        only.waits(lambda: messages(kept_redis) == (0, 0), "acknowledgement of what has run")
        send(kept_redis, "next", 0)
        only.waits(lambda: "ended next" in record(kept_environment), "next task")
    assert sorted(record(kept_environment)) == sorted(
        f"{word} {name}" for name in ("short", "long", "next") for word in ("began", "ended")
    )


@POOLS
def test_what_is_not_started_is_back_in_the_queue_and_runs_once(
    kept_environment: dict[str, str], kept_redis: Redis, pool: str
) -> None:
    """Held for its countdown, and taken in advance."""
    more = json.dumps({"CELERY_WORKER_PREFETCH_MULTIPLIER": 4})
    with worker({**kept_environment, "MORE_SETTINGS": more}, ONE, f"--pool={pool}") as only:
        countdown = fill(only, kept_redis, kept_environment, 10)
        only.waits(lambda: messages(kept_redis) == (0, 5), "tasks taken in advance")
        with away(kept_redis, only):
            pass
        let_end(kept_environment, "long")
        only.waits(lambda: "ended later" in record(kept_environment), "task with a countdown")
        assert time.monotonic() > countdown - 1
        only.waits(lambda: messages(kept_redis) == (0, 0), "no message left")
    assert record(kept_environment)[2:-2] == [f"{word} {number}" for number in range(3) for word in ("began", "ended")]
    assert len(record(kept_environment)) == 10


def test_what_a_process_has_not_begun_runs_and_is_acknowledged(
    kept_environment: dict[str, str], kept_redis: Redis
) -> None:
    """Perhaps twice. The process is frozen before it has said that it runs it."""
    with worker(kept_environment, ONE) as only:
        send(kept_redis, "first", 0)  # so that the process is known to take tasks
        only.waits(lambda: "ended first" in record(kept_environment), "executed task")
        only.waits(lambda: messages(kept_redis) == (0, 0), "acknowledged task")
        processes = children(only.process.pid)
        for each in processes:
            os.kill(each, signal.SIGSTOP)
        send(kept_redis, "a", 0)
        only.waits(lambda: only.log.read_text().count("received") == 2, "received task")
        with away(kept_redis, only):
            pass
        for each in processes:
            os.kill(each, signal.SIGCONT)
        only.waits(lambda: messages(kept_redis) == (0, 0), "no message left")
        send(kept_redis, "next", 0)
        only.waits(lambda: "ended next" in record(kept_environment), "next task")
    assert "ended a" in record(kept_environment)


def test_redis_that_forgot_everything_does_not_end_the_worker(environment: dict[str, str], redis: Redis) -> None:
    with worker(environment, ONE) as only:
        only.told("READY=1")
        send(redis, "busy", task="wait_for_file")
        only.waits(lambda: record(environment) == ["began busy"], "running task")
        with away(redis, only):
            pass
        let_end(environment, "busy")
        send(redis, "next", 0)
        only.waits(lambda: "ended next" in record(environment), "next task")
        only.waits(lambda: messages(redis) == (0, 0), "no message left")
