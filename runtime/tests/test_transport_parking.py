"""A task that ends its process each time is tried so often, and parked; the others go on."""

import signal
from contextlib import ExitStack
from functools import partial

import pytest
from leased import (
    FOR_EVER,
    client_of,
    ended,
    kill,
    leased,
    nothing_left,
    parked_in,
    prefetching,
    queued,
    result_of,
    starts,
    unfinished,
)
from testkit.redis import Redis
from testkit.waiting import comes_true
from workers import Unit, messages, record, send, worker

from celeriac.transport.parking import release
from celeriac.transport.recovery import DELIVERIES

ONE = "--concurrency=1"
OTHERS = "--queues=others"  # of a worker that only looks after the rest
DEATHS = pytest.mark.parametrize("how", ["killed", "exits at once", "exits"])
NEIGHBOURS = [f"{number}" for number in range(12)]


@pytest.fixture
def impatient(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a worker that takes four messages a process, and tries one three times."""
    return leased(environment, prefetching(4), deliveries=3, lease_seconds=FOR_EVER)


def deadly(broker: Redis, name: str, how: str, task: str = "dies") -> str:
    """Send a task that dies, and keeps its result; return its id."""
    return send(broker, name, how, task=f"work.deadly.{task}", ignore_result=False)


def with_neighbours(broker: Redis, how: str) -> str:
    """Send a deadly task, ``poison``, among others; return its id."""
    for name in NEIGHBOURS[:2]:
        send(broker, name, 0)
    task_id = deadly(broker, "poison", how)
    for name in NEIGHBOURS[2:]:
        send(broker, name, 0)
    return task_id


def began(environment: dict[str, str], name: str, times: int) -> bool:
    """Return whether a task began so often."""
    return starts(environment)[name] == times


def is_parked(broker: Redis, environment: dict[str, str], task_id: str, times: int) -> None:
    """Check that a task, and no other, is parked, and that its state says so."""
    (parked,) = parked_in(broker)
    assert (parked.task_id, parked.task) == (task_id, "work.deadly.dies")
    assert (parked.times, parked.queue) == (times, "celery")
    assert parked.reason
    # It is stored a moment later.
    assert comes_true(lambda: result_of(environment, task_id)[0] == "FAILURE", within=60)
    _, result = result_of(environment, task_id)
    assert "WorkerLostError" in result
    assert f"not ended {times} times, parked" in result
    assert parked.reason in result


@DEATHS
def test_task_that_ends_its_process_is_parked_and_others_go_on(
    impatient: dict[str, str], redis: Redis, how: str
) -> None:
    with worker(impatient) as only:
        task_id = with_neighbours(redis, how)
        only.waits(lambda: len(parked_in(redis)) == 1, "parked task")
        only.waits(lambda: ended(impatient) == {*NEIGHBOURS}, "end of the others")
        nothing_left(only, redis)
        only.waits(lambda: result_of(impatient, task_id)[0] == "FAILURE", "failure")
    assert starts(impatient) == {**dict.fromkeys(NEIGHBOURS, 1), "poison": 3}
    is_parked(redis, impatient, task_id, 3)


def test_a_project_that_says_nothing_has_a_task_tried_five_times(environment: dict[str, str], redis: Redis) -> None:
    with worker(leased(environment), ONE) as only:
        task_id = deadly(redis, "poison", "killed")
        only.waits(lambda: len(parked_in(redis)) == 1, "parked task")
        only.waits(lambda: result_of(environment, task_id)[0] == "FAILURE", "failure")
    assert starts(environment) == {"poison": 5}
    assert DELIVERIES == 5
    is_parked(redis, environment, task_id, 5)


@pytest.mark.parametrize("how", ["killed", "exits"])
def test_a_task_that_ended_its_process_once_runs_again(impatient: dict[str, str], redis: Redis, how: str) -> None:
    with worker(impatient, ONE) as only:
        task_id = deadly(redis, "unlucky", how, task="dies_once")
        only.waits(lambda: result_of(impatient, task_id) == ("SUCCESS", '"unlucky"'), "success")
        nothing_left(only, redis)
    assert starts(impatient) == {"unlucky": 2}
    assert parked_in(redis) == []


def test_a_task_that_runs_out_of_memory_has_failed_and_that_is_all(impatient: dict[str, str], redis: Redis) -> None:
    """The worker stays the same process, and so does the one of its pool."""
    with worker(impatient, ONE) as only:
        send(redis, "before", task="work.deadly.which_worker")
        task_id = with_neighbours(redis, "runs out of memory")
        send(redis, "after", task="work.deadly.which_worker")
        only.waits(lambda: ended(impatient) == {*NEIGHBOURS}, "end of the others")
        only.waits(lambda: f"parent after {only.process.pid}" in record(impatient), "last task")
        nothing_left(only, redis)
    assert starts(impatient) == {**dict.fromkeys(NEIGHBOURS, 1), "poison": 1}
    state, result = result_of(impatient, task_id)
    assert state == "FAILURE"
    assert "MemoryError" in result
    assert "a task wants too much" in result
    assert parked_in(redis) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_task_that_ends_its_worker_is_parked_and_others_go_on(
    impatient: dict[str, str], redis: Redis, processes: int
) -> None:
    """They come back with it each time; it is not their fault."""
    with ExitStack() as stack:
        unit = Unit(stack, impatient, f"--concurrency={processes}")
        task_id = with_neighbours(redis, "kills the worker")

        def is_over() -> bool:
            unit.restart_if_ended()
            return bool(parked_in(redis)) and ended(impatient) == {*NEIGHBOURS}

        assert comes_true(is_over, 120), unit.running.log.read_text()[-3000:]
        nothing_left(unit.running, redis)
        is_parked(redis, impatient, task_id, 3)
    assert starts(impatient)["poison"] == 3
    assert {*starts(impatient)} == {*NEIGHBOURS, "poison"}


def test_a_task_that_is_released_begins_anew(impatient: dict[str, str], redis: Redis) -> None:
    """Once, however often it is released; and it may die as often as before."""
    with client_of(redis) as client:
        with worker(impatient, ONE) as first:
            task_id = deadly(redis, "poison", "killed")
            first.waits(lambda: len(parked_in(redis)) == 1, "parked task")
        (parked,) = parked_in(redis)
        assert release(client, parked.tag)
        assert not release(client, parked.tag)
        assert parked_in(redis) == []
        assert (queued(redis), unfinished(redis)) == (["poison"], [0])
        with worker(impatient, ONE) as second:
            second.waits(lambda: len(parked_in(redis)) == 1, "parked task")
            second.waits(lambda: starts(impatient) == {"poison": 6}, "starts")
            assert [each.task_id for each in parked_in(redis)] == [task_id]


def test_a_task_that_is_released_can_succeed(impatient: dict[str, str], redis: Redis) -> None:
    """Its old failure does not stay."""
    impatient = leased(impatient, deliveries=1)
    with worker(impatient, ONE) as only, client_of(redis) as client:
        task_id = deadly(redis, "unlucky", "killed", task="dies_once")
        only.waits(lambda: result_of(impatient, task_id)[0] == "FAILURE", "failure")
        (parked,) = parked_in(redis)
        assert release(client, parked.tag)
        only.waits(lambda: result_of(impatient, task_id) == ("SUCCESS", '"unlucky"'), "success")
        nothing_left(only, redis)


# What is counted.


def test_only_the_end_of_a_worker_is_counted(impatient: dict[str, str], redis: Redis) -> None:
    """Neither a lost connection nor a deploy nor the end of a drain is."""
    names = ["long", "0", "1", "2"]
    with worker({**impatient, "CELERIAC_WORKER_SOFT_SHUTDOWN_TIMEOUT": "1"}, ONE) as first:
        first.told("READY=1")
        send(redis, "long", task="wait_for_file")
        first.waits(lambda: starts(impatient) == {"long": 1}, "running task")
        for name in names[1:]:
            send(redis, name, task="wait_for_file")
        first.waits(lambda: messages(redis) == (0, 4), "messages taken in advance")
        with client_of(redis) as client:
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(_type=kind)
        first.told("STATUS=consuming", times=2)
        first.waits(lambda: messages(redis) == (0, 4), "messages taken again")
        first.process.send_signal(signal.SIGTERM)
        first.waits(lambda: messages(redis) == (3, 1), "messages back in the queue")
        assert (queued(redis), unfinished(redis)) == (names[1:], [0, 0, 0])
        first.process.send_signal(signal.SIGQUIT)  # the drain is over
        first.process.wait(60)
    assert (queued(redis), unfinished(redis)) == (names, [0, 0, 0, 0])
    with worker(impatient, ONE) as second, worker(impatient, OTHERS) as looks:
        second.waits(lambda: messages(redis) == (0, 4), "messages taken")
        second.waits(lambda: starts(impatient) == {"long": 2}, "running task")
        looks.told("READY=1")
        kill(second)
        looks.waits(lambda: messages(redis) == (4, 0), "messages back in the queue")
    assert (queued(redis), unfinished(redis)) == (names, [1, 1, 1, 1])


def test_what_only_waited_is_not_parked_with_what_ran(impatient: dict[str, str], redis: Redis) -> None:
    with worker(impatient, OTHERS) as looks:
        looks.told("READY=1")
        for times in (1, 2, 3):
            with worker(impatient, ONE) as each:
                each.told("READY=1")
                if times == 1:
                    send(redis, "long", task="wait_for_file")
                is_running = partial(began, impatient, "long", times)
                each.waits(is_running, "running task")
                if times == 1:
                    send(redis, "0", 0)
                    send(redis, "1", 0)
                each.waits(lambda: messages(redis) == (0, 3), "messages taken in advance")
                kill(each)
            looks.waits(lambda: messages(redis)[1] == 0, "messages back in the queue")
        looks.waits(lambda: len(parked_in(redis)) == 1, "parked task")
        assert (queued(redis), unfinished(redis)) == (["0", "1"], [1, 1])


# Who waits for it.


@pytest.mark.parametrize("backend", ["database", "redis"])
def test_a_chord_with_a_parked_task_ends_in_failure(impatient: dict[str, str], redis: Redis, backend: str) -> None:
    """It would wait for ever."""
    environment = impatient | ({"RESULT_BACKEND": redis.url} if backend == "redis" else {})
    body = f"the-body-on-{backend}"

    def failed() -> bool:
        if backend == "database":
            return result_of(environment, body)[0] == "FAILURE"
        with client_of(redis) as client:
            return '"status": "FAILURE"' in (client.get(f"celery-task-meta-{body}") or "")

    with worker(environment) as only:
        send(redis, "chord", "killed", body, task="work.deadly.send_chord")
        only.waits(lambda: len(parked_in(redis)) == 1, "parked task")
        only.waits(failed, "failure of the body")
    assert starts(environment) == {"chord fine": 1, "chord dies": 3}
