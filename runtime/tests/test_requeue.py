"""What a stopping worker gives back, and when."""

import json
import os
import signal
import time

import pytest
from celery import Celery
from environment import children
from testkit.redis import Redis
from workers import POOLS, fill, let_end, messages, record, send, worker

from celeriac.versions import has

SOFTLY = pytest.mark.skipif(not has("soft shutdown"), reason="this Celery has no soft shutdown")


@POOLS
@pytest.mark.parametrize("multiplier", [1, 4])
def test_what_is_not_started_runs_elsewhere_during_the_drain(
    environment: dict[str, str], redis: Redis, pool: str, multiplier: int
) -> None:
    more = json.dumps({"CELERY_WORKER_PREFETCH_MULTIPLIER": multiplier})
    one = ["--concurrency=1", f"--pool={pool}"]
    with worker({**environment, "MORE_SETTINGS": more}, *one) as first:
        countdown = fill(first, redis, environment, 15)
        first.waits(lambda: messages(redis)[1] == 1 + multiplier, "prefetched tasks")
        with worker(environment, *one) as second:
            second.told("READY=1")
            first.process.send_signal(signal.SIGTERM)
            second.waits(lambda: "ended 2" in record(environment), "prefetched tasks run")
            second.waits(lambda: "ended later" in record(environment), "task with a countdown")
            assert time.monotonic() > countdown - 1
            assert "ended long" not in record(environment)
            let_end(environment, "long")
            first.process.wait(60)
            second.waits(lambda: messages(redis) == (0, 0), "acknowledged tasks")
            assert sorted(record(environment)) == sorted(
                f"{word} {name}" for word in ("began", "ended") for name in ("long", "later", "0", "1", "2")
            )
            assert "long" not in second.log.read_text()


def test_the_order_of_what_goes_back_is_kept_and_it_is_in_front(environment: dict[str, str], redis: Redis) -> None:
    more = json.dumps({"CELERY_WORKER_PREFETCH_MULTIPLIER": 4})
    with worker({**environment, "MORE_SETTINGS": more}, "--concurrency=1") as first:
        first.told("READY=1")
        send(redis, "long", task="wait_for_file")
        first.waits(lambda: record(environment) == ["began long"], "running task")
        for number in range(6):
            send(redis, str(number), 0)
        first.waits(lambda: messages(redis) == (3, 4), "prefetched tasks")
        first.process.send_signal(signal.SIGTERM)
        first.told("STOPPING=1")
        let_end(environment, "long")
        first.process.wait(60)
    with worker(environment, "--concurrency=1") as second:
        second.waits(lambda: "ended 5" in record(environment), "the rest")
    began = [line for line in record(environment) if line.startswith("began")]
    assert began == ["began long", *(f"began {number}" for number in range(6))]


def test_what_a_rate_limit_holds_goes_back_too(environment: dict[str, str], redis: Redis) -> None:
    more = json.dumps({"CELERY_WORKER_PREFETCH_MULTIPLIER": 4})
    with worker({**environment, "MORE_SETTINGS": more}, "--concurrency=2") as first:
        first.told("READY=1")
        send(redis, "long", task="wait_for_file")
        for number in range(3):
            send(redis, f"limited {number}", task="once_an_hour")
        first.waits(lambda: messages(redis) == (0, 3), "two limited tasks and a running one")
        first.waits(lambda: "began long" in record(environment), "running task")
        first.process.send_signal(signal.SIGTERM)
        first.waits(lambda: messages(redis) == (2, 1), "the limited tasks in the queue")
        let_end(environment, "long")
        first.process.wait(60)
        assert messages(redis) == (2, 0)


def test_message_for_a_worker_stopped_while_frozen_is_for_others(environment: dict[str, str], redis: Redis) -> None:
    """The worker waits for a message, and is frozen; when it goes on, it has been stopped."""
    with worker(environment) as first:
        first.told("READY=1")
        send(redis, "long", task="wait_for_file")
        first.waits(lambda: record(environment) == ["began long"], "running task")
        first.process.send_signal(signal.SIGSTOP)
        send(redis, "unseen", 0)
        first.process.send_signal(signal.SIGTERM)
        first.process.send_signal(signal.SIGCONT)
        first.told("STOPPING=1")
        first.waits(lambda: messages(redis) == (1, 1), "message in the queue")
        let_end(environment, "long")
        first.process.wait(60)
        assert messages(redis) == (1, 0)
        assert record(environment) == ["began long", "ended long"]


def test_message_that_redis_still_hands_out_is_requeued(environment: dict[str, str], redis: Redis) -> None:
    """The worker has asked Redis for a message, and stops; within that second one is sent."""
    with worker(environment) as first, Celery(broker=redis.url, set_as_current=False) as sender:
        first.told("READY=1")
        sender.send_task("work.tasks.wait_for_file", ("long",), ignore_result=True)
        first.waits(lambda: record(environment) == ["began long"], "running task")
        first.process.send_signal(signal.SIGTERM)
        first.told("STOPPING=1")
        sender.control.broadcast("heartbeat")  # the event loop turns once more, and ends
        time.sleep(0.1)
        sender.send_task("work.tasks.sleep", ("late", 0), ignore_result=True)
        first.waits(lambda: messages(redis) == (1, 1), "message back in the queue")
        let_end(environment, "long")
        first.process.wait(60)
        assert messages(redis) == (1, 0)
        assert record(environment) == ["began long", "ended long"]


def test_a_task_that_a_process_already_has_is_not_given_back(environment: dict[str, str], redis: Redis) -> None:
    """A pool process gets a task, and is frozen before it has said that it runs it."""
    with worker(environment, "--concurrency=1") as running:
        send(redis, "first", 0)  # so that the process is known to take tasks
        running.waits(lambda: "ended first" in record(environment), "executed task")
        running.waits(lambda: messages(redis) == (0, 0), "acknowledged task")
        processes = children(running.process.pid)
        for each in processes:
            os.kill(each, signal.SIGSTOP)
        send(redis, "a", 0)
        running.waits(lambda: messages(redis) == (0, 1), "task taken")
        running.waits(lambda: running.log.read_text().count("received") == 2, "received task")
        with Celery(broker=redis.url, set_as_current=False) as sender:
            for _ in range(3):  # turns of the event loop, in which the task is written to the pool
                assert sender.control.ping(timeout=10, limit=1)
        running.process.send_signal(signal.SIGTERM)
        running.told("STOPPING=1")
        time.sleep(1)
        for each in processes:
            os.kill(each, signal.SIGCONT)
        running.process.wait(60)
        assert record(environment)[2:] == ["began a", "ended a"]
        assert messages(redis) == (0, 0)


@SOFTLY
def test_what_the_soft_shutdown_cuts_off_is_counted_and_named(environment: dict[str, str], redis: Redis) -> None:
    with worker(
        {**environment, "CELERIAC_WORKER_SOFT_SHUTDOWN_TIMEOUT": "2", "CELERIAC_DRAIN_SECONDS": "60"}
    ) as running:
        running.told("READY=1")
        unfinished = send(redis, "endless", 60)
        finished = send(redis, "ends", 4)
        running.waits(lambda: len(record(environment)) == 2, "two tasks begun")
        running.process.send_signal(signal.SIGTERM)
        running.told("STOPPING=1")
        time.sleep(2.5)
        began = time.monotonic()
        running.process.send_signal(signal.SIGQUIT)  # an outsider ends the drain
        running.process.wait(60)
        assert time.monotonic() - began >= 2, "the soft shutdown was cut short"
        assert messages(redis) == (1, 0)
        assert record(environment)[2:] == ["ended ends"]
        log = running.log.read_text()
        assert f"1 task(s) did not finish and will run again: {unfinished}" in log
        assert finished not in log.rpartition("will run again")[2]


@SOFTLY
def test_drain_timer_does_not_end_a_soft_shutdown_from_outside(environment: dict[str, str], redis: Redis) -> None:
    with worker(
        {**environment, "CELERIAC_WORKER_SOFT_SHUTDOWN_TIMEOUT": "5", "CELERIAC_DRAIN_SECONDS": "3"}
    ) as running:
        running.told("READY=1")
        send(redis, "a", 5)
        running.waits(lambda: record(environment) == ["began a"], "task begun")
        running.process.send_signal(signal.SIGTERM)
        running.told("STOPPING=1")
        time.sleep(1)
        running.process.send_signal(signal.SIGQUIT)
        running.process.wait(60)
        assert record(environment) == ["began a", "ended a"]
        assert messages(redis) == (0, 0)


def test_a_worker_without_its_broker_still_stops(environment: dict[str, str], redis: Redis) -> None:
    with worker(environment) as running:
        running.told("READY=1")
        redis.stop()
        running.told("STATUS=waiting for the broker", times=2)
        running.stop()


def test_a_remote_shutdown_gives_back_as_well(environment: dict[str, str], redis: Redis) -> None:
    with worker(environment) as running:
        running.told("READY=1")
        send(redis, "later", 0, countdown=60)
        send(redis, "long", task="wait_for_file")
        running.waits(lambda: messages(redis) == (0, 2), "received tasks")
        running.waits(lambda: record(environment) == ["began long"], "running task")
        with Celery(broker=redis.url, set_as_current=False) as sender:
            sender.control.shutdown()
        running.waits(lambda: messages(redis) == (1, 1), "held task in the queue")
        let_end(environment, "long")
