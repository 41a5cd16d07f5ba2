"""The worker under a supervisor: when it is ready, what it says, and how it stops."""

import signal
import time
from pathlib import Path

import pytest
from celery import Celery
from testkit.redis import Redis
from workers import POOLS, messages, record, send, worker

from celeriac.versions import has

DRAIN_SECONDS = 2
SOFT_SHUTDOWN_SECONDS = 2


@pytest.fixture
def draining(environment: dict[str, str]) -> dict[str, str]:
    """An environment in which the worker drains and shuts down softly for a short time."""
    return {
        **environment,
        "CELERIAC_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "CELERIAC_WORKER_SOFT_SHUTDOWN_TIMEOUT": str(SOFT_SHUTDOWN_SECONDS),
    }


def test_ready_means_that_it_consumes(environment: dict[str, str], redis: Redis) -> None:
    redis.stop()
    with worker(environment) as running:
        running.told("STATUS=waiting for the broker")
        running.waits(lambda: "Cannot connect" in running.log.read_text(), "refusal by the broker")
        time.sleep(1)
        assert "READY=1" not in "".join(running.notifications.texts())
        redis.start()
        running.told("READY=1\nSTATUS=consuming")
        send(redis, "a", 0)
        running.waits(lambda: "ended a" in record(environment), "executed task")


@pytest.mark.parametrize("choice", ["", "no", "yes"])
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_what_a_task_returned_is_in_the_log_only_where_that_is_chosen(
    choice: str, pool: str, environment: dict[str, str], redis: Redis
) -> None:
    with worker({**environment, "CELERIAC_LOG_RESULTS": choice}, f"--pool={pool}") as running:
        sent = send(redis, "a-secret", 0)
        running.waits(lambda: f"[{sent}] succeeded in" in running.log.read_text(), "success")
        assert ("a-secret" in running.log.read_text()) is (choice == "yes")


def test_the_status_follows_the_broker(environment: dict[str, str], redis: Redis) -> None:
    with worker(environment) as running:
        running.told("READY=1")
        redis.stop()
        running.told("STATUS=waiting for the broker", times=2)  # the first was at the start
        redis.start()
        running.told("STATUS=consuming", times=2)
        send(redis, "a", 0)
        running.waits(lambda: "ended a" in record(environment), "executed task")
        assert sum("READY=1" in text for text in running.notifications.texts()) == 1


def test_a_worker_that_runs_its_tasks_itself_says_what_it_runs(environment: dict[str, str], redis: Redis) -> None:
    with worker(environment, "--pool=solo") as running:
        running.told("READY=1\nSTATUS=consuming")
        send(redis, "a", 1)
        running.told("STATUS=runs work.tasks.sleep")
        running.waits(lambda: "ended a" in record(environment), "executed task")
        running.told("STATUS=consuming", times=2)


@POOLS
def test_the_event_loop_wakes_up_for_what_has_ended(environment: dict[str, str], redis: Redis, pool: str) -> None:
    with worker(environment, f"--pool={pool}", "--include=work.sleepy") as running:
        running.told("READY=1")
        send(redis, "a", 0)
        running.waits(lambda: "ended a" in record(environment), "executed task")
        running.waits(lambda: messages(redis) == (0, 0), "acknowledged task")


def test_a_stop_lets_running_tasks_finish(environment: dict[str, str], redis: Redis) -> None:
    with worker(environment) as running:
        running.told("READY=1")
        send(redis, "a", 1)
        running.waits(lambda: "began a" in record(environment), "task begun")
        running.stop()
        assert record(environment) == ["began a", "ended a"]
        assert "warm shutdown (SIGTERM), 1 task(s) running" in running.told("STOPPING=1\nSTATUS=")
        assert running.process.returncode == 0
        assert messages(redis) == (0, 0)


def test_only_what_is_unfinished_after_the_drain_is_requeued(draining: dict[str, str], redis: Redis) -> None:
    with worker(draining) as running:
        running.told("READY=1")
        send(redis, "never ends", 60)
        send(redis, "ends in the soft shutdown", DRAIN_SECONDS + SOFT_SHUTDOWN_SECONDS / 2)
        running.waits(lambda: len(record(draining)) == 2, "two tasks begun")
        send(redis, "never begins", 60)
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        time.sleep(DRAIN_SECONDS / 2)
        running.stop()  # which must not start the drain anew
        took = time.monotonic() - began
        softly = has("soft shutdown")
        assert took >= DRAIN_SECONDS + SOFT_SHUTDOWN_SECONDS * softly
        assert messages(redis) == (2 if softly else 3, 0)
        assert record(draining)[2:] == ["ended ends in the soft shutdown"] * softly
        over = [when for when, text in running.notifications.messages if "drain over, 2" in text]
        assert [when >= began + DRAIN_SECONDS for when in over] == [True]


def test_the_clock_of_the_drain_is_stopped_when_all_is_done(
    environment: dict[str, str], project: Path, redis: Redis
) -> None:
    with (project / "work" / "tasks.py").open("a") as module:
        module.write(
            "import atexit, signal\natexit.register(lambda: _record('left', signal.getitimer(signal.ITIMER_REAL)[0]))\n"
        )
    with worker({**environment, "CELERIAC_DRAIN_SECONDS": "60"}) as running:
        running.told("READY=1")
        running.stop()
        assert record(environment) == ["left 0.0"]


def test_a_remote_shutdown_is_reported_too(environment: dict[str, str], redis: Redis) -> None:
    with worker(environment) as running:
        running.told("READY=1")
        with Celery(broker=redis.url, set_as_current=False) as sender:
            sender.control.shutdown()
        running.waits(lambda: "STOPPING=1" in running.notifications.texts(), "STOPPING=1")
        running.process.wait(60)
