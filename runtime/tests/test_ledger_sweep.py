"""What is nowhere any more is sent again, and nothing else is."""

import base64
import json
import signal
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
from environment import postgresql_session
from ledgers import (
    BOUND,
    Project,
    ended,
    everything,
    freezable,
    freeze,
    kill,
    running,
    with_ledger,
)
from services import RabbitMQ, Redis
from supervised import Supervised
from workers import messages, record, worker

# Of the sweep, in the time of a bound.
LOOKS = 4
# Until a lost task is executed: the bound, two looks, and a slow computer.
WITHIN = BOUND * 3 + 15

ONE = "--concurrency=1"


def pop(broker: Redis, queue: str = "celery") -> str:
    """Take a message out of a queue as a worker that is killed in the next moment does."""
    with redis_client.Redis.from_url(broker.url) as client:
        (_, taken) = client.brpop([queue], timeout=5)
        return str(json.loads(taken)["headers"]["id"])


def youngest(broker: Redis, queue: str) -> str:
    """Return the id of the task that came last into a queue."""
    with redis_client.Redis.from_url(broker.url) as client:
        return str(json.loads(client.lindex(queue, 0))["headers"]["id"])


def held(broker: Redis) -> list[int]:
    """Return which attempt each message is that a worker has not acknowledged."""
    with redis_client.Redis.from_url(broker.url) as client:
        return [json.loads(kept)[0]["headers"]["retries"] for kept in client.hvals("unacked")]


def waiting_for_a_lock(environment: dict[str, str]) -> bool:
    """Return whether a session of the database waits for another one."""
    with postgresql_session(environment) as session:
        found = session.execute(
            "SELECT 1 FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return found.fetchone() is not None


def all_ended(running: Supervised, environment: dict[str, str], names: set[str]) -> None:
    """Wait until tasks of these names have ended."""
    running.waits(lambda: set(ended(environment)) >= names, "lost tasks executed", WITHIN)


def closed(running: Supervised, project: Project) -> None:
    """Wait until no row is open."""
    running.waits(lambda: project.open() == 0, "all rows closed")


def looked(running: Supervised, project: Project, times: int = 3) -> None:
    """Wait for so many more looks of the sweep."""
    before = project.report()["looks"]
    running.waits(lambda: project.report()["looks"] >= before + times, "looks")


def test_what_a_killed_worker_took_and_did_not_note_is_executed(
    ledger_environment: dict[str, str], redis: Redis
) -> None:
    """The worker is frozen while it waits for a message, gets one, and is killed: ten times."""
    with running(ledger_environment) as project:
        with ExitStack() as stack:
            environment = freezable(ledger_environment)
            frozen = [stack.enter_context(worker(environment, ONE)) for _ in range(10)]
            freeze(frozen, redis)
            project.send_many([(f"{number}", 0) for number in range(10)])
            frozen[0].waits(lambda: everything(redis) == {"unacked": 0}, "taken messages")
            for each in frozen:
                kill(each.process)
        with worker(ledger_environment) as healthy:
            all_ended(healthy, ledger_environment, {f"{number}" for number in range(10)})
            closed(healthy, project)
        report = project.report()
        duplicates = len(ended(ledger_environment)) - 10
        print(f"10 lost, 10 executed, {duplicates} duplicates; {report}")
        assert report["sent_again"] == 10
        assert duplicates == report["doubled"] == 0


def test_on_rabbitmq_nothing_is_sent_again(
    ledger_environment: dict[str, str], rabbitmq: RabbitMQ
) -> None:
    environment = {**ledger_environment, "BROKER_URL": rabbitmq.url}
    with running(environment) as project:
        with ExitStack() as stack:
            frozen = [stack.enter_context(worker(environment, ONE)) for _ in range(5)]
            for each in frozen:
                each.told("READY=1", within=60)
            for each in frozen:
                each.process.send_signal(signal.SIGSTOP)
            project.send_many([(f"{number}", 0) for number in range(10)])
            time.sleep(BOUND)  # it cannot be seen what RabbitMQ has given out
            for each in frozen:
                kill(each.process)
        with worker(environment) as healthy:
            all_ended(healthy, environment, {f"{number}" for number in range(10)})
            closed(healthy, project)
            looked(healthy, project, 6)
        assert project.report()["sent_again"] == 0
        assert Counter(ended(environment)) == Counter(f"{number}" for number in range(10))


def test_what_waits_is_not_sent_again(ledger_environment: dict[str, str], redis: Redis) -> None:
    """5,000 tasks behind a worker that is busy for three times the bound, of all priorities.

    Beside them: a queue that nobody consumes, tasks with a countdown, held by the worker and not
    yet held, one that is parked, and a backlog that is an hour old.
    """
    with running(ledger_environment) as project:
        project.send_many([("held", 0)] * 15, countdown=BOUND * 4)
        project.send("busy", task="wait_for_file")
        with worker(ledger_environment, ONE) as only:
            only.waits(lambda: record(ledger_environment) == ["began busy"], "busy worker")
            assert messages(redis) == (0, 16)
            project.send_many([("later", 0)] * 5, countdown=BOUND * 4)
            for priority in (0, 3, 6, 9):
                project.send_many([()] * 1250, task="nothing", priority=priority)
            project.send_many([()] * 100, task="nothing", queue="paused")
            project.send("nobody", task="of.nobody")
            with postgresql_session(ledger_environment) as session:
                session.execute(
                    "UPDATE celeriac_ledger_dispatch SET sent_at = sent_at - interval '1 hour',"
                    " queued_at = queued_at - interval '1 hour' WHERE priority IN (3, 6)"
                )
            looked(only, project, 3 * LOOKS)
            assert sum(everything(redis).values()) == 5122  # with the one that runs
            (Path(ledger_environment["SCRATCH"]) / "busy").touch()
            only.waits(lambda: "ended busy" in record(ledger_environment), "worker that is free")
            only.waits(lambda: sum(everything(redis).values()) == 101, "worked off queue", 60)
            looked(only, project, 3)
        report = project.report()
        assert report["sent_again"] == report["lost"] == report["dropped"] == 0, report
        assert report["open"] == 101
        names = Counter(ended(ledger_environment))
        assert names == {"busy": 1, "held": 15, "later": 5}


def test_what_was_put_back_behind_a_long_queue_is_not_sent_again(
    ledger_environment: dict[str, str], redis: Redis
) -> None:
    """It is older than all that is before it: it is looked for, and found in the middle."""
    with running(ledger_environment) as project:
        old = project.send("old", 0, queue="paused")
        project.send_many([()] * 1250, task="nothing", queue="paused")
        with redis_client.Redis.from_url(redis.url) as client:
            client.lpush("paused", client.rpop("paused"))
        project.send_many([()] * 1250, task="nothing", queue="paused")
        with worker(ledger_environment) as healthy:
            healthy.told("READY=1")
            time.sleep(BOUND)
            looked(healthy, project, 4)
        assert project.row(old)["resent"] == 0
        assert project.report()["sent_again"] == 0


def test_what_is_lost_from_a_long_queue_is_sent_again_at_once(
    ledger_environment: dict[str, str], redis: Redis
) -> None:
    with running(ledger_environment) as project:
        lost = project.send("lost", 0, queue="paused", priority=6)
        project.send_many([()] * 2000, task="nothing", queue="paused", priority=6)
        assert pop(redis, "paused\x06\x166") == lost
        with worker(ledger_environment) as healthy:
            healthy.waits(
                lambda: youngest(redis, "paused\x06\x166") == lost, "lost task sent again", WITHIN
            )
        assert project.row(lost)["resent"] == 1
        assert project.report()["sent_again"] == 1


def test_it_is_sent_as_it_was(ledger_environment: dict[str, str], redis: Redis) -> None:
    """Arguments, headers, priority, time limits and callbacks are the same; the header tells."""
    arguments = ["é" * 5000, {"a": [1.5, None, [[[["deep"]]]]], 'quote"s': "'"}]
    with running(ledger_environment) as project:
        (sent,) = project.send_many(
            [arguments], priority=3, queue="paused", time_limit=60,
            headers={"mine": "kept"}, link=[{"task": "work.tasks.nothing", "args": [], "kwargs": {},
                                             "options": {}, "subtask_type": None}],
        )  # fmt: skip
        with redis_client.Redis.from_url(redis.url) as client:
            before = json.loads(client.rpop("paused\x06\x163"))
            with worker(ledger_environment) as healthy:
                again = "paused\x06\x163"
                healthy.waits(lambda: client.llen(again) == 1, "the task sent again", WITHIN)
            after = json.loads(client.rpop(again))
    assert after["headers"].pop("celeriac-resent") == 1
    assert before["headers"] == after["headers"]
    decoded = [json.loads(base64.b64decode(each["body"])) for each in (before, after)]
    assert decoded[0] == decoded[1]
    assert decoded[0][0] == arguments
    for name in ("priority", "correlation_id", "reply_to", "delivery_mode"):
        assert before["properties"][name] == after["properties"][name]
    assert after["headers"]["id"] == sent


def test_a_lost_retry_is_sent_again(ledger_environment: dict[str, str], redis: Redis) -> None:
    with running(ledger_environment) as project:
        sent = project.send("it", 0, "paused", task="retry_once")
        with worker(ledger_environment) as first:
            first.waits(lambda: project.row(sent)["retries"] == 1, "retry")
            assert pop(redis, "paused") == sent
        with worker(ledger_environment, "--queues=celery,paused") as second:
            second.waits(lambda: project.row(sent)["ended_at"] is not None, "ended", WITHIN)
        assert record(ledger_environment) == ["attempt it 0", "attempt it 1"]
        assert project.report()["sent_again"] == 1


def test_a_lost_retry_with_a_countdown_is_not_sent_before_its_time(
    ledger_environment: dict[str, str], redis: Redis
) -> None:
    with running(ledger_environment) as project, worker(ledger_environment, ONE) as only:
        sent = project.send("it", BOUND * 3, task="retry_once")
        only.waits(lambda: project.row(sent)["retries"] == 1, "retry")
        # The row changes before the message is there, and the first attempt is held until after.
        only.waits(lambda: held(redis) == [1], "retry held for its time")
        eta = project.row(sent)["eta"]
        with redis_client.Redis.from_url(redis.url) as client:
            client.delete("unacked", "unacked_index")
        kill(only.process)
        with worker(ledger_environment) as second:
            second.waits(lambda: "attempt it 1" in record(ledger_environment), "retry", WITHIN + 10)
            assert datetime.now(UTC) > eta + timedelta(seconds=BOUND)
        assert project.report()["sent_again"] == 1


def test_what_was_revoked_or_is_expired_is_not_sent_again(
    ledger_environment: dict[str, str], redis: Redis
) -> None:
    """One revocation is known to the worker that looks, the other to the project alone."""
    environment = with_ledger(
        ledger_environment, CELERIAC_LEDGER_REVOKED="work.revoked.those_of_the_project"
    )
    with running(environment) as project, worker(environment) as only:
        only.told("READY=1")
        revoked = project.call("work.revoked", "send_and_revoke", "heard by the worker")
        of_project = project.send("revoked in the project", 0, queue="paused")
        expired = project.send("expired", 0, queue="paused", expires=BOUND / 2)
        other = project.send("not revoked", 0, queue="paused")
        assert {pop(redis, "paused") for _ in range(4)} == {revoked, of_project, expired, other}
        only.waits(lambda: project.row(other)["resent"] == 1, "the other one sent again", WITHIN)
        looked(only, project)
        for each in (revoked, of_project, expired):
            assert project.row(each)["resent"] == 0
            assert project.row(each)["ended_at"] is not None
        assert project.report()["sent_again"] == 1
        assert ended(environment) == []


def test_of_two_sweeps_at_once_one_sends(ledger_environment: dict[str, str], redis: Redis) -> None:
    names = {f"{number}" for number in range(60)}
    with running(ledger_environment) as project:
        project.send_many([(name, 0) for name in names])
        with redis_client.Redis.from_url(redis.url) as client:
            client.delete("celery")
        with ExitStack() as stack:
            workers = [stack.enter_context(worker(ledger_environment, ONE)) for _ in range(3)]
            for each in workers:
                each.told("READY=1", within=60)
            both = [stack.enter_context(running(ledger_environment)) for _ in range(2)]
            deadline = time.monotonic() + BOUND * 2
            while time.monotonic() < deadline:  # beside the workers' own, and not in turn
                for each in both:
                    each.begin({"import": "work.sweeping", "call": "look", "args": []})
                for each in both:
                    each.answer()
            all_ended(workers[0], ledger_environment, names)
            closed(workers[0], project)
        assert Counter(ended(ledger_environment)) == Counter(names)
        assert project.report()["sent_again"] == 60


def test_a_worker_that_is_frozen_while_it_sends_again_does_not_hold_up_the_others(
    ledger_environment: dict[str, str], redis: Redis
) -> None:
    """It has claimed the row, and its transaction is open."""
    with running(ledger_environment) as project:
        sent = project.send("it", 0)
        pop(redis)
        with postgresql_session(ledger_environment) as session:
            session.execute("BEGIN")
            # What it counts after the claim waits for this one.
            session.execute(
                "INSERT INTO celeriac_ledger_counter (name, value, changed_at)"
                " VALUES ('sent_again', 0, now())"
            )
            with worker(ledger_environment, ONE) as frozen:
                frozen.waits(lambda: waiting_for_a_lock(ledger_environment), "claim", WITHIN)
                frozen.process.send_signal(signal.SIGSTOP)
                session.execute("ROLLBACK")
                with worker(ledger_environment, ONE) as healthy:
                    all_ended(healthy, ledger_environment, {"it"})
                    closed(healthy, project)
                    frozen.process.send_signal(signal.SIGCONT)
                    looked(healthy, project)
                looked(frozen, project)
        assert record(ledger_environment) == ["began it", "ended it"]
        assert (project.row(sent)["resent"], project.report()["sent_again"]) == (1, 1)


def test_what_is_not_in_the_ledger_or_has_no_arguments_there_is_not_sent_again(
    ledger_environment: dict[str, str], redis: Redis
) -> None:
    with running(ledger_environment) as project:
        hidden = project.send("the secret", 0, task="secret")
        project.send("outside", 0, task="unnoted")
        taken = {pop(redis), pop(redis)}
        (row,) = project.rows()
        assert row["task_id"] == hidden
        assert hidden in taken
        assert "the secret" not in repr(row)
        assert row["args"] is row["kwargs"] is row["message"] is None
        with worker(ledger_environment) as healthy:
            healthy.waits(lambda: project.report()["lost"] == 1, "report", WITHIN)
            looked(healthy, project)
        assert record(ledger_environment) == []
        assert project.row(hidden)["lost"]
        report = project.report()
        assert (report["lost"], report["sent_again"], report["open"]) == (1, 0, 0)


def test_a_project_may_have_the_broker_under_a_prefix(
    ledger_environment: dict[str, str], redis: Redis
) -> None:
    options: dict[str, Any] = {"global_keyprefix": "site:", "visibility_timeout": 3600}
    environment = with_ledger(ledger_environment, CELERY_BROKER_TRANSPORT_OPTIONS=options)
    with running(environment) as project:
        lost = project.send("lost", 0)
        kept = project.send("kept", 0, queue="paused")
        assert pop(redis, "site:celery") == lost
        with worker(environment) as healthy:
            all_ended(healthy, environment, {"lost"})
            looked(healthy, project)
        assert project.row(kept)["resent"] == 0
        assert project.report()["sent_again"] == 1


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_starts_and_ends_come_to_the_ledger(
    ledger_environment: dict[str, str], redis: Redis, pool: str
) -> None:
    with running(ledger_environment) as project:
        with worker(ledger_environment, f"--pool={pool}") as only:
            late, early = project.send("late", 1), project.send("early", 1, task="early")
            for each, acked in ((late, False), (early, True)):
                only.waits(lambda each=each: project.row(each)["starts"] == 1, "start")
                row = project.row(each)
                assert (row["acked"], row["ended_at"]) == (acked, None)
                assert row["worker"].startswith("worker-")
            closed(only, project)
            looked(only, project)
            with redis_client.Redis.from_url(redis.url) as client:
                only.waits(lambda: not client.exists("celeriac.receipts"), "no receipt left")
            project.send("at the end", 0.5)
            only.waits(lambda: "began at the end" in record(ledger_environment), "last task")
            only.stop()
        assert project.open() == 0, "a stopping worker keeps what it has not written"
        assert project.report()["doubled"] == 0
