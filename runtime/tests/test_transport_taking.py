"""Messages that workers take from Redis: none is lost, none is taken too early or twice."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from celery import Celery
from supervised import Supervised, supervised
from testkit.redis import Redis
from testkit.waiting import comes_true
from transport_bed import (
    A_MESSAGE,
    ONE,
    calls,
    configured,
    inside,
    kill,
    names,
    queued,
    sender,
    taken,
    trap,
)
from workers import POOLS, let_end, messages, record, send, worker

# Of a test that hits one moment again and again.
ROUNDS = 50 if os.environ.get("CELERIAC_FULL") else 5
# A queue that is taken from in batches, and how many a batch has at most.
LONG, BATCH = 40, 10


def executed(environment: dict[str, str]) -> list[str]:
    """Return which tasks have ended, in their order."""
    return names(record(environment), "ended")


def begun(environment: dict[str, str]) -> list[str]:
    """Return which tasks have begun, in their order."""
    return names(record(environment), "began")


def have_ended(environment: dict[str, str], number: int) -> bool:
    """Return whether so many tasks have ended."""
    return len(executed(environment)) == number


def are_left(redis: Redis, *left: int) -> bool:
    """Return whether so many messages wait, and so many are taken."""
    return messages(redis) == left


@pytest.fixture
def long_queue(redis: Redis) -> list[str]:
    """The names of the tasks in a long queue."""
    tasks = [str(number) for number in range(LONG)]
    with sender(redis.url) as send_one:
        for name in tasks:
            send_one(name, 0)
    return tasks


def test_a_worker_killed_while_a_message_is_on_its_way_loses_nothing(environment: dict[str, str], redis: Redis) -> None:
    expected: list[str] = []
    with trap(redis, environment) as (way, through):
        for number in range(ROUNDS):
            with worker(through, ONE) as victim:
                victim.told("READY=1")
                victim.waits(lambda: executed(environment) == expected, "what the last one had")
                victim.waits(lambda: messages(redis) == (0, 0), "acknowledgement")
                way.set("answer", A_MESSAGE, partial(kill, victim))
                send(redis, str(number), 0)
                way.springs()
            assert messages(redis) == (0, 1)
            expected.append(str(number))
        with worker(environment, ONE) as last:
            last.waits(lambda: executed(environment) == expected, "what the last one had")
            last.waits(lambda: messages(redis) == (0, 0), "acknowledgement")


def test_message_on_a_cut_connection_is_executed_once_and_soon(environment: dict[str, str], redis: Redis) -> None:
    expected = [str(number) for number in range(ROUNDS)]
    with trap(redis, environment) as (way, through), worker(through, ONE) as only:
        only.told("READY=1")
        for number, name in enumerate(expected, 1):
            way.set("answer", A_MESSAGE)
            send(redis, name, 0)
            way.springs()
            only.waits(partial(have_ended, environment, number), "executed task")
            only.waits(lambda: messages(redis) == (0, 0), "acknowledgement")
    assert begun(environment) == executed(environment) == expected


@pytest.mark.parametrize("is_killed", [False, True], ids=["cut", "killed"])
def test_a_batch_on_its_way_is_executed_once_and_in_order(
    environment: dict[str, str], redis: Redis, long_queue: list[str], is_killed: bool
) -> None:
    there: list[tuple[int, int]] = []

    with trap(redis, configured(environment, prefetch=BATCH)) as (way, through):
        # It may take them at once, before there is anybody to kill.
        way.set("answer", A_MESSAGE, lambda: there.append(messages(redis)))
        with worker(through, ONE) as first:
            way.springs()
            if is_killed:
                kill(first)
            else:
                first.waits(lambda: len(executed(environment)) == LONG, "executed tasks")
                first.waits(lambda: messages(redis) == (0, 0), "acknowledgements")
        with worker(through, ONE) as second:
            second.waits(lambda: len(executed(environment)) == LONG, "executed tasks")
            second.waits(lambda: messages(redis) == (0, 0), "acknowledgements")
    assert there == [(LONG - BATCH, BATCH)]
    assert begun(environment) == executed(environment) == long_queue


def test_a_frozen_worker_takes_nothing(environment: dict[str, str], redis: Redis) -> None:
    with worker(environment, ONE) as idle:
        send(redis, "first", 0)
        idle.waits(lambda: executed(environment) == ["first"], "executed task")
        idle.waits(lambda: messages(redis) == (0, 0), "acknowledgement")
        idle.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{idle.process.pid}/stat")
        idle.waits(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "standstill")
        send(redis, "second", 0)
        assert messages(redis) == (1, 0)
        kill(idle)
    assert messages(redis) == (1, 0)


def test_order_is_by_priority_then_turn_then_age(environment: dict[str, str], redis: Redis) -> None:
    # One queue has nothing urgent, one nothing else. What is most urgent is much.
    priorities = {"low": range(4, 10), "any": range(10), "high": range(6)}
    sent = []
    with sender(redis.url, priority_steps=[*range(10)]) as send_one:
        for priority in reversed(range(10)):
            for number in range(LONG if priority == 0 else 2):
                for queue in (each for each, has in priorities.items() if priority in has):
                    sent.append((priority, number, queue))
                    send_one(f"{priority} {number} {queue}", 0, queue=queue, priority=priority)
    steps = configured(environment, prefetch=4, priority_steps=[*range(10)])
    with worker(steps, ONE, f"--queues={','.join(priorities)}") as only:
        only.waits(lambda: len(begun(environment)) == len(sent), "executed tasks")
    order = [name.split() for name in begun(environment)]
    assert sorted((int(first), int(then), queue) for first, then, queue in order) == sorted(sent)
    # In each turn comes one from each queue that has any so urgent.
    turns = [(int(priority), int(number)) for priority, number, _ in order]
    assert turns == sorted(turns)


def test_batches_keep_the_order(environment: dict[str, str], redis: Redis, long_queue: list[str]) -> None:
    """Of priorities too: the urgent ones are sent last, the long list is the least urgent."""
    with sender(redis.url) as send_one:
        for priority in (6, 3):  # kombu has lists for 0, 3, 6 and 9
            for number in range(LONG):
                send_one(f"{priority} {number}", 0, priority=priority)
    urgent = [f"{priority} {number}" for priority in (3, 6) for number in range(LONG)]
    with inside(redis) as client:
        client.config_resetstat()
    with worker(configured(environment, prefetch=8), ONE) as only:
        only.waits(lambda: len(begun(environment)) == 3 * LONG, "executed tasks")
    assert begun(environment) == [*long_queue, *urgent]
    assert calls(redis, "rpop") >= 1, "nothing was taken in batches"


def test_of_a_short_queue_one_is_taken_at_a_time(environment: dict[str, str], redis: Redis) -> None:
    """So that others have some, too. Which ones cannot be said: who asks faster may have all."""
    tasks = [str(number) for number in range(8)]
    with sender(redis.url) as send_one:
        for name in tasks:
            send_one(name, 0)
    there: list[tuple[int, int]] = []
    with trap(redis, configured(environment, prefetch=BATCH)) as (way, through):
        way.set("answer", A_MESSAGE, lambda: there.append(messages(redis)))
        with worker(through, ONE) as only:
            only.waits(lambda: len(executed(environment)) == len(tasks), "executed tasks")
    assert there == [(len(tasks) - 1, 1)]
    assert begun(environment) == tasks


def have_begun(environment: dict[str, str], number: int) -> bool:
    """Return whether so many tasks have begun."""
    return len(begun(environment)) == number


def test_no_more_is_taken_than_there_is_room_for(environment: dict[str, str], redis: Redis) -> None:
    with sender(redis.url) as send_one:
        for number in range(LONG):
            send_one(str(number), task="wait_for_file")
    with worker(configured(environment, prefetch=3)) as only:
        only.waits(lambda: messages(redis) == (LONG - 6, 6), "full prefetch")
        for ended in range(1, 4):
            only.waits(partial(have_begun, environment, 1 + ended), "running tasks")
            let_end(environment, begun(environment)[-1])
            only.waits(partial(are_left, redis, LONG - 6 - ended, 6), "full prefetch")
        time.sleep(1.5)  # it would ask once a second
        assert messages(redis) == (LONG - 6 - 3, 6)


@pytest.mark.parametrize("moment", ["question", "answered"])
def test_an_acknowledgement_is_not_lost_with_the_connection(
    environment: dict[str, str], redis: Redis, moment: str
) -> None:
    """Neither before it came to Redis nor when nobody says that it did.

    A busy worker says it with its next question, an idle one by itself. What the pool is given in
    the moment of the cut may run twice (`celeriac.worker.reconnect`).
    """
    busy = ["a", "b", "c", "d", "e"]
    with sender(redis.url) as send_one:
        for name in busy:
            send_one(name, 0)
    with trap(redis, configured(environment, prefetch=2)) as (way, through):
        # By its tag: it is in no other question.
        way.set(moment, queued(redis)[2].encode())
        with worker(through, ONE) as only:
            way.springs()
            only.waits(lambda: {*executed(environment)} == {*busy}, "executed tasks")
            only.waits(lambda: messages(redis) == (0, 0), "acknowledgements")
            send(redis, "idle", task="wait_for_file")
            only.waits(lambda: begun(environment)[-1] == "idle", "running task")
            way.set(moment, taken(redis)[0].encode())
            let_end(environment, "idle")
            way.springs()
            only.waits(lambda: messages(redis) == (0, 0), "acknowledgement")
            send(redis, "next", 0)
            only.waits(lambda: "next" in executed(environment), "next task")
            only.waits(lambda: messages(redis) == (0, 0), "acknowledgement")
    once = ["a", "b", "c", "idle", "next"]
    assert [name for name in begun(environment) if name in once] == once


@POOLS
def test_acknowledgements_are_said_although_no_question_follows(
    environment: dict[str, str], redis: Redis, pool: str
) -> None:
    """Because there is no room, because no queue is consumed, because the worker stops.

    A countdown makes room for one more, until it is over: then the worker has one too many.
    """
    with (
        worker(environment, f"--pool={pool}") as only,
        Celery(broker=redis.url, set_as_current=False) as app,
    ):
        only.told("READY=1")
        send(redis, "later", task="wait_for_file", countdown=4)
        only.waits(lambda: messages(redis) == (0, 1), "held task")
        for name in ("a", "b"):
            send(redis, name, task="wait_for_file")
        only.waits(lambda: len(begun(environment)) == 2, "running tasks")
        assert messages(redis) == (0, 3)
        send(redis, "waits", 0)
        asking = app.control.inspect(timeout=30, limit=1)
        only.waits(lambda: not any(asking.scheduled().values()), "end of the countdown")
        assert messages(redis) == (1, 3), "this worker was to be full"
        let_end(environment, "a")
        only.waits(lambda: messages(redis) == (1, 2), "acknowledgement of a full worker")
        assert app.control.cancel_consumer("celery", reply=True, timeout=30, limit=1)
        let_end(environment, "b")
        only.waits(lambda: messages(redis) == (1, 1), "acknowledgement of one that does not ask")
        assert app.control.add_consumer("celery", reply=True, timeout=30, limit=1)
        only.waits(lambda: executed(environment)[-1:] == ["waits"], "executed task")
        only.process.send_signal(signal.SIGTERM)
        only.told("STOPPING=1")
        let_end(environment, "later")
        only.process.wait(60)
    assert messages(redis) == (0, 0)
    assert len(begun(environment)) == 4


@contextmanager
def stock_worker(environment: dict[str, str]) -> Iterator[Supervised]:
    """Run a worker of the project with kombu's own transport."""
    options = [ONE, "--hostname=stock@%h", "--without-gossip", "--without-mingle"]
    arguments = ["-A", "demo", "worker", *options, "--loglevel=INFO"]
    with supervised("celery", *arguments, environment=environment) as running:
        running.waits(lambda: " ready." in running.log.read_text(), "start")
        yield running


def test_what_a_worker_holds_is_not_old_for_a_stock_one_until_it_dies(
    environment: dict[str, str], redis: Redis
) -> None:
    """A stock one looks for what is old when it starts; how often else, no setting says before kombu 5.7."""
    timeout = 8  # seconds
    both = configured(environment, visibility_timeout=timeout)
    with inside(redis) as client:

        def is_over() -> None:
            since = client.time()[0]
            assert comes_true(lambda: client.time()[0] > since + timeout + 3, 60)

        with worker(both, ONE) as ours:
            send(redis, "a", task="wait_for_file")
            ours.waits(lambda: begun(environment) == ["a"], "running task")
            is_over()
            with stock_worker(both) as stock:
                send(redis, "b", 0)
                stock.waits(lambda: "b" in executed(environment), "task of the stock worker")
                assert begun(environment) == ["a", "b"]
            kill(ours)
        is_over()
        with stock_worker(both) as stock:
            stock.waits(lambda: begun(environment) == ["a", "b", "a"], "what ours had")
            let_end(environment, "a")
            stock.waits(lambda: executed(environment) == ["b", "a"], "task of ours")
            stock.waits(lambda: messages(redis) == (0, 0), "acknowledgement")
