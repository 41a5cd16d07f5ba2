"""A Redis that is full refuses what is new, and nothing of what it has is lost."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis as redis_client
from celery import Celery
from kombu.exceptions import OperationalError
from leased import client_of, ended, kill, leased, nothing_left, prefetching, result_of, starts
from testkit.redis import Redis, redis_server
from workers import let_end, messages, record, send, worker

MEGABYTE = 1024 * 1024


@pytest.fixture
def small_redis() -> Iterator[Redis]:
    """A Redis with room for some hundred long messages, which drops nothing by itself."""
    with redis_server() as server, client_of(server) as client:
        client.config_set("maxmemory-policy", "noeviction")
        # Connections need memory of their own, and come and go.
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 6 * MEGABYTE)
        yield server


@pytest.fixture
def small_environment(environment: dict[str, str], small_redis: Redis) -> dict[str, str]:
    """The environment of a worker that uses it."""
    return leased({**environment, "BROKER_URL": small_redis.url}, prefetching(4), lease_seconds=4)


def fill(redis: Redis) -> None:
    """Let it be full from now on, whatever is taken out."""
    with client_of(redis) as client:
        client.config_set("maxmemory", 1)


@contextmanager
def room_for_more(redis: Redis) -> Iterator[None]:
    """Let there be room for a hundred long messages, and none from then on."""
    with client_of(redis) as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 2 * MEGABYTE)
    yield
    fill(redis)


def names(kind: int, count: int = 100) -> Iterator[str]:
    """Return names of tasks."""
    return (f"{kind}-{number}" for number in range(count))


def publish(redis: Redis, names: Iterable[str], *, until_refused: int) -> tuple[list[str], int]:
    """Send long tasks until some are refused; return the names of the others, and how many were."""
    accepted, refused = [], 0
    with (
        Celery(broker=redis.url, set_as_current=False) as sender,
        sender.producer_pool.acquire(block=True) as producer,
    ):
        for name in names:
            try:
                sender.send_task(
                    "work.tasks.sleep",
                    (name, 0.001),
                    ignore_result=True,
                    retry=False,
                    producer=producer,
                    headers={"ballast": "x" * 20_000},
                )
            except (OperationalError, redis_client.exceptions.ResponseError):
                refused += 1
            else:
                accepted.append(name)
            if refused == until_refused:
                break
    return accepted, refused


def test_what_a_full_redis_accepted_runs_once_and_no_worker_ends(
    small_environment: dict[str, str], small_redis: Redis
) -> None:
    """It is full again and again, while two workers do what they can."""
    accepted: list[str] = []
    with worker(small_environment) as first, worker(small_environment) as second:
        first.told("READY=1")
        second.told("READY=1")
        for number in range(10):
            with room_for_more(small_redis):
                accepted += publish(small_redis, names(number), until_refused=20)[0]
            # However fast the workers are.
            assert publish(small_redis, ["refused"] * 20, until_refused=20) == ([], 20)
        assert accepted
        first.waits(lambda: ended(small_environment) >= {*accepted}, "end of all", within=120)
        nothing_left(second, small_redis)
        assert starts(small_environment) == dict.fromkeys(accepted, 1)
        assert first.process.poll() is second.process.poll() is None


def test_a_worker_that_is_started_while_redis_is_full_empties_it(
    small_environment: dict[str, str], small_redis: Redis
) -> None:
    """Nobody else would."""
    accepted, refused = publish(small_redis, names(0, 20_000), until_refused=100)
    assert refused == 100
    fill(small_redis)
    with worker(small_environment, mingle=True) as only:
        only.waits(lambda: ended(small_environment) >= {*accepted}, "end of all", within=120)
        nothing_left(only, small_redis)
    assert starts(small_environment) == dict.fromkeys(accepted, 1)


def test_what_a_killed_worker_had_comes_back_while_redis_is_full(
    small_environment: dict[str, str], small_redis: Redis
) -> None:
    with (
        worker(small_environment, "--concurrency=1") as first,
        worker(small_environment, "--queues=others") as looks,
    ):
        looks.told("READY=1")
        first.told("READY=1")
        for name in ("a", "b", "c"):
            send(small_redis, name, task="wait_for_file")
        first.waits(lambda: messages(small_redis) == (0, 3), "messages taken in advance")
        fill(small_redis)
        kill(first)
        looks.waits(lambda: messages(small_redis) == (3, 0), "messages back in the queue")


def test_a_task_that_is_tried_again_while_redis_is_full_is_not_lost(
    small_environment: dict[str, str], small_redis: Redis, scratch: Path
) -> None:
    """What is new is refused at that moment; this is not."""
    with worker(small_environment, "--concurrency=1") as only:
        task_id = send(small_redis, "again", task="work.deadly.retry_after_file", ignore_result=False)
        only.waits(lambda: record(small_environment) == ["attempt again 0"], "first attempt")
        fill(small_redis)
        with pytest.raises((OperationalError, redis_client.exceptions.ResponseError)):
            send(small_redis, "new", 0, retry=False)
        let_end(small_environment, "again")
        only.waits(lambda: "attempt again 1" in record(small_environment), "second attempt")
        nothing_left(only, small_redis)
        only.waits(lambda: result_of(small_environment, task_id)[0] == "SUCCESS", "success")
    assert record(small_environment) == ["attempt again 0", "attempt again 1"]
