"""Workers and Redis are killed at random under load: nothing is lost, and little runs twice."""

import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from celery import Celery
from leased import ended, kill, leased, prefetching, starts
from supervised import Supervised
from testkit.redis import Redis
from workers import messages, worker

FULL = bool(os.environ.get("CELERIAC_FULL"))
TASKS = 5_000 if FULL else 600
KILLS = 20 if FULL else 4
PROCESSES = 2  # of each of two workers


@pytest.fixture
def loaded(environment: dict[str, str], kept_redis: Redis) -> dict[str, str]:
    """The environment of a worker that takes messages in advance."""
    return leased({**environment, "BROKER_URL": kept_redis.url}, prefetching(4))


class Site:
    """Two workers, and a client that sends them tasks whatever happens.

    Attributes:
        sent: the names of the tasks that Redis has.
    """

    def __init__(self, stack: ExitStack, environment: dict[str, str], redis: Redis) -> None:
        self.sent = 0
        self._stack = stack
        self._environment = environment
        self._redis = redis
        self._sender = stack.enter_context(Celery(broker=redis.url, set_as_current=False))
        self.workers = [self._worker() for _ in range(2)]

    def _worker(self) -> Supervised:
        return self._stack.enter_context(worker(self._environment, f"--concurrency={PROCESSES}", "--loglevel=WARNING"))

    def send(self, number: int) -> None:
        """Send some tasks, faster than two workers can follow."""
        with self._sender.producer_pool.acquire(block=True) as producer:
            for _ in range(number):
                self._sender.send_task(
                    "work.tasks.sleep",
                    (f"{self.sent}", 0.005),
                    ignore_result=True,
                    producer=producer,
                )
                self.sent += 1

    def kill_one(self, choice: random.Random) -> None:
        """Kill a worker, and start another."""
        number = choice.randrange(2)
        kill(self.workers[number])
        self.workers[number] = self._worker()

    def consume(self) -> None:
        """Wait until both workers do."""
        for each in self.workers:
            each.told("STATUS=consuming")

    def kill_redis(self) -> None:
        """Kill Redis, and start it again."""
        self._redis.stop()
        time.sleep(1)
        self._redis.start()

    def is_over(self) -> bool:
        """Return whether all tasks have come to their end."""
        return len(ended(self._environment)) == self.sent


def test_nothing_is_lost_when_workers_and_redis_are_killed_at_random(
    loaded: dict[str, str], kept_redis: Redis, record_property: Callable[[str, object], None]
) -> None:
    choice = random.Random(1)
    with ExitStack() as stack:
        site = Site(stack, loaded, kept_redis)
        for number in range(KILLS):
            site.consume()
            before = choice.randrange(20, TASKS // KILLS)
            site.send(before)
            site.kill_one(choice)
            site.send(TASKS // KILLS - before)
            if number == KILLS // 2:
                site.kill_redis()
        site.consume()
        site.workers[0].waits(site.is_over, f"end of {TASKS} tasks", within=120)
        site.workers[0].waits(lambda: messages(kept_redis) == (0, 0), "queue with nothing in it")
    often = starts(loaded)
    again = sum(times - 1 for times in often.values())
    record_property("started again", again)
    assert len(often) == TASKS
    print("started again", again)
    # Each process of a killed worker may run one task, and have ended one of which the worker has
    # not read or said yet that it has. When Redis is lost, those just handed over are forgotten.
    assert again <= (KILLS + 2) * 2 * PROCESSES
