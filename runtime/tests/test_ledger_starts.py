"""A task that is started a second time, and a site on which everything is killed."""

import json
import random
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis as redis_client
from environment import postgresql_session
from ledgers import BOUND, Project, ended, everything, freezable, freeze, kill, running, with_ledger
from services import Redis, redis_server
from supervised import Supervised
from workers import messages, record, worker

ONE = "--concurrency=1"
WITHIN = BOUND * 3 + 15


def taken_by_a_frozen_worker(frozen: Supervised, redis: Redis, project: Project, task: str) -> str:
    """Freeze a worker, and send a task that it takes and cannot note; return the id."""
    freeze([frozen], redis)
    sent = project.send("it", *([0] if task == "once" else []), task=task)
    frozen.waits(lambda: everything(redis) == {"unacked": 0}, "taken message")
    return sent


def test_what_waited_long_and_was_taken_just_now_is_not_sent_again(
    ledger_environment: dict[str, str], redis: Redis
) -> None:
    """The bound is for how long a task is nowhere, not for how long ago it was sent."""
    bound = 8 * BOUND
    frozen_environment = with_ledger(
        freezable(ledger_environment), CELERIAC_LEDGER_BOUND_SECONDS=bound
    )
    environment = with_ledger(ledger_environment, CELERIAC_LEDGER_BOUND_SECONDS=bound)
    with running(environment) as project, worker(frozen_environment, ONE) as frozen:
        sent = taken_by_a_frozen_worker(frozen, redis, project, "once")
        with postgresql_session(environment) as session:
            session.execute(
                "UPDATE celeriac_ledger_dispatch SET queued_at = queued_at - interval '1 hour'"
            )
        with worker(environment, ONE, "--queues=other") as healthy:
            healthy.waits(lambda: project.row(sent)["missed_at"] is not None, "look", WITHIN)
            looks = project.report()["looks"]
            healthy.waits(lambda: project.report()["looks"] >= looks + 2, "two more looks")
            frozen.process.send_signal(signal.SIGCONT)
            frozen.waits(lambda: project.row(sent)["ended_at"] is not None, "end")
        assert record(environment) == ["began it", "ended it"]
        assert project.report()["sent_again"] == 0


def test_a_frozen_worker_that_wakes_after_the_task_was_executed_drops_it(
    ledger_environment: dict[str, str], redis: Redis
) -> None:
    environment = freezable(ledger_environment)
    with running(ledger_environment) as project, worker(environment, ONE) as frozen:
        sent = taken_by_a_frozen_worker(frozen, redis, project, "once")
        with worker(ledger_environment, ONE) as healthy:
            healthy.waits(lambda: project.row(sent)["ended_at"] is not None, "resend", WITHIN)
            frozen.process.send_signal(signal.SIGCONT)
            frozen.waits(lambda: project.report()["dropped"] == 1, "dropped start")
            frozen.waits(lambda: messages(redis) == (0, 0), "no message left")
        assert record(ledger_environment) == ["began it", "ended it"]
        frozen.waits(lambda: "has ended before: dropped" in frozen.log.read_text(), "word of it")
        report = project.report()
        assert (report["sent_again"], report["started_again"], report["doubled"]) == (1, 0, 0)
        # It is up to date again, and drops nothing else.
        other = project.send("other", 0)
        frozen.waits(lambda: project.row(other)["ended_at"] is not None, "other task")
        assert project.report()["dropped"] == 1


def test_a_frozen_worker_that_wakes_while_the_task_runs_runs_it_too_and_is_counted(
    ledger_environment: dict[str, str], redis: Redis
) -> None:
    environment = freezable(ledger_environment)
    with running(ledger_environment) as project, worker(environment, ONE) as frozen:
        sent = taken_by_a_frozen_worker(frozen, redis, project, "once_with_file")
        with worker(ledger_environment, ONE) as healthy:
            healthy.waits(lambda: project.row(sent)["starts"] == 1, "resent task", WITHIN)
            frozen.process.send_signal(signal.SIGCONT)
            frozen.waits(lambda: project.row(sent)["starts"] == 2, "second start")
            (Path(ledger_environment["SCRATCH"]) / "it").touch()
            frozen.waits(lambda: len(ended(ledger_environment)) == 2, "two ends")
        frozen.waits(lambda: project.report()["started_again"] == 1, "count")
        assert project.report()["doubled"] == 1
        assert [*Path(ledger_environment["SCRATCH"]).glob("effect-*")] == [
            Path(ledger_environment["SCRATCH"]) / "effect-it"
        ]


def test_what_was_put_back_after_it_had_ended_is_dropped(
    ledger_environment: dict[str, str], redis: Redis
) -> None:
    """As a worker leaves it that is killed between the end of a task and its acknowledgement."""
    with running(ledger_environment) as project:
        sent = project.send("it", 0)
        with redis_client.Redis.from_url(redis.url) as client:
            message = json.loads(client.lindex("celery", 0))
            with worker(ledger_environment) as only:
                only.waits(lambda: project.row(sent)["ended_at"] is not None, "end")
                message["headers"]["redelivered"] = True
                message["properties"]["delivery_info"]["redelivered"] = True
                client.rpush("celery", json.dumps(message))
                only.waits(lambda: project.report()["dropped"] == 1, "dropped start")
                only.waits(lambda: messages(redis) == (0, 0), "no message left")
        assert record(ledger_environment) == ["began it", "ended it"]


@pytest.mark.parametrize("task", ["sleep", "early"])
def test_what_a_worker_executed_in_the_moment_before_it_was_killed_is_not_sent_again(
    ledger_environment: dict[str, str], redis: Redis, task: str
) -> None:
    """The ledger does not know of it; Redis has the receipt."""
    with running(ledger_environment) as project:
        with worker(ledger_environment, ONE) as first:
            first.told("READY=1")
            sent = project.send("it", 0, task=task, countdown=1)
            with project.unheard(sent):
                first.waits(lambda: "ended it" in record(ledger_environment), "execution")
                first.waits(lambda: messages(redis) == (0, 0), "acknowledgement")
                kill(first.process)
        assert project.row(sent)["ended_at"] is None
        with worker(ledger_environment, ONE) as second:
            second.waits(lambda: project.report()["looks"] >= 1, "looks")
            with redis_client.Redis.from_url(redis.url) as client:
                second.waits(lambda: not client.exists("celeriac.receipts"), "receipts read")
            time.sleep(2 * BOUND)
        assert record(ledger_environment) == ["began it", "ended it"]
        assert project.report()["sent_again"] == 0
        row = project.row(sent)
        assert row["ended_at"] if task == "sleep" else row["acked"]


def test_all_that_waited_is_sent_again_when_redis_has_lost_it(
    ledger_environment: dict[str, str], redis: Redis
) -> None:
    names = [f"{number}" for number in range(100)]
    with running(ledger_environment) as project:
        project.send_many([(name, 0) for name in names])
        redis.stop()
        redis.start()
        assert everything(redis) == {"unacked": 0}
        with worker(ledger_environment) as only:
            only.waits(lambda: len(ended(ledger_environment)) >= 100, "all of them", WITHIN)
            only.waits(lambda: project.open() == 0, "closed rows")
        assert Counter(ended(ledger_environment)) == Counter(names)
        assert project.report()["sent_again"] == 100


def test_under_kills_of_redis_and_of_workers_no_task_is_lost(
    ledger_environment: dict[str, str],
) -> None:
    """Five kills of Redis and eight of workers, under 2,000 tasks."""
    kills = ["redis"] * 5 + ["worker"] * 8
    random.Random(5).shuffle(kills)
    options = {"visibility_timeout": 8, "socket_timeout": 5, "unacked_restore_interval": 1}
    options["unacked_restore_throttle"] = 1
    accepted: list[str] = []
    with redis_server(on_disk=True) as redis, ExitStack() as stack:
        environment = with_ledger(
            {**ledger_environment, "BROKER_URL": redis.url},
            CELERY_BROKER_TRANSPORT_OPTIONS=options,
            # Longer than a restart of Redis takes here.
            CELERY_TASK_PUBLISH_RETRY_POLICY={"max_retries": 20, "interval_max": 0.3},
        )
        project = stack.enter_context(running(environment))

        def start() -> Supervised:
            return stack.enter_context(worker(environment, ONE, "--loglevel=WARNING"))

        workers = [start(), start()]
        for each in workers:
            each.told("READY=1", within=60)
        for turn, victim in enumerate(kills):
            names = [f"{turn}-{number}" for number in range(154)]
            project.begin({"import": "work.ledger_help", "call": "send_each", "args": [names]})
            already = len(ended(environment))
            workers[-1].waits(lambda a=already: len(ended(environment)) > a + 20, "progress", 40)
            if victim == "redis":
                redis.stop()
                redis.start()
            else:
                kill(workers.pop(0).process)
                workers.append(start())
            accepted += project.answer()
            # Celery's worker may end with an error when Redis is killed; systemd starts it again.
            workers = [each if each.process.poll() is None else start() for each in workers]
        deadline = time.monotonic() + 90
        while missing := set(accepted) - set(ended(environment)):
            assert time.monotonic() < deadline, f"{len(missing)} lost of {len(accepted)}"
            workers = [each if each.process.poll() is None else start() for each in workers]
            time.sleep(0.2)
        executed = Counter(ended(environment))
        again = sum(executed.values()) - len(executed)
        report = project.report()
        print(f"{len(accepted)} accepted, 0 lost, {again} executed again; {report}")
        assert len(accepted) >= 1900
        for name in accepted:
            assert (Path(environment["SCRATCH"]) / f"effect-{name}").is_dir()
