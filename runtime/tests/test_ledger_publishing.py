"""Every task that is sent is written down, and a failure to do so keeps none from being sent."""

import http.client
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pytest
import redis as redis_client
from environment import TOKEN, postgresql_session
from ledgers import Project, ended, running, with_ledger
from listening import NO_CONTROL_SOCKET
from supervised import supervised
from testkit.ports import free_port
from testkit.postgresql import PostgreSQL
from testkit.redis import Redis
from testkit.waiting import comes_true
from workers import messages, record, send, worker


def test_a_row_says_what_was_sent(sender: Project) -> None:
    long = "é" * 5000
    arguments = [1.5, None, True, long, [[[["deep"]]]], {"a": {"b": []}}]
    sent, again, pinged = (
        sender.send(
            *arguments,
            priority=6,
            headers={"sent_by": "anna", "rerun_of": "before", "periodic_task_name": "nightly"},
        ),
        sender.send("it", 0, queue="other", countdown=600, expires=900),
        sender.send(task="celeriac.ping"),
    )
    assert pinged not in [row["task_id"] for row in sender.rows()]
    row = sender.row(sent)
    assert (row["name"], row["retries"], row["queue"]) == ("work.tasks.sleep", 0, "celery")
    assert (json.loads(row["args"]), json.loads(row["kwargs"])) == (arguments, {})
    assert (row["priority"], row["sent_by"], row["parent"], row["entry"]) == (6, "anna", "before", "nightly")
    other = sender.row(again)
    assert other["queue"] == "other"
    assert 595 < (other["eta"] - other["sent_at"]).total_seconds() <= 600
    assert 895 < (other["expires"] - other["sent_at"]).total_seconds() <= 900


def test_the_row_is_there_before_the_broker_has_the_message(sender: Project, redis: Redis) -> None:
    sender.send("first", 0)  # so that it is connected
    with redis.frozen():
        sender.begin({"task": "work.tasks.sleep", "args": [["second", 0]], "options": {}})
        deadline = time.monotonic() + 60
        while len(sender.rows()) < 2:
            assert time.monotonic() < deadline, "no row while the broker does not answer"
            time.sleep(0.05)
    assert sender.row(sender.answer()[0])["ended_at"] is None


def test_a_row_belongs_to_the_transaction_in_which_the_task_is_sent(
    ledger_environment: dict[str, str], sender: Project
) -> None:
    (undone,) = sender.call("work.tasks", "send_in_transaction", "undone", True)
    at_once, later = sender.call("work.tasks", "send_in_transaction", "done", False)
    assert [row["task_id"] for row in sender.rows()] == [at_once, later]
    with worker(ledger_environment) as only:
        only.waits(lambda: len(ended(ledger_environment)) == 3, "tasks")
        only.waits(lambda: sender.open() == 0, "closed rows")
    assert "ended undone at once" in record(ledger_environment), "Celery sends at once"
    assert undone not in [row["task_id"] for row in sender.rows()]


def test_what_could_not_be_sent_is_forgotten(sender: Project, redis: Redis) -> None:
    redis.stop()
    answer = sender.ask({"task": "work.tasks.sleep", "args": [["it", 0]], "options": {}})
    assert "OperationalError" in answer["error"]
    assert sender.rows() == []


def test_without_the_database_tasks_are_sent_and_counted(
    ledger_environment: dict[str, str], sender: Project, postgresql: PostgreSQL, redis: Redis
) -> None:
    sender.send("before", 0)
    with worker(ledger_environment) as only:
        only.waits(lambda: ended(ledger_environment) == ["before"], "first task")
        postgresql.stop()
        sender.send("meanwhile", 0)
        only.waits(lambda: "ended meanwhile" in record(ledger_environment), "task without a row")
        postgresql.start()
        sender.send("after", 0)
        only.waits(lambda: "ended after" in record(ledger_environment), "task with a row")
        only.waits(lambda: sender.open() == 0, "closed rows")
    assert [json.loads(row["args"])[0] for row in sender.rows()] == ["before", "after"]
    assert sender.report()["not_noted"] == 1


# So many publications that a second for each would be more than `TOGETHER`.
MANY, TOGETHER = 100, 50


@pytest.mark.parametrize("connected", [True, False])
def test_a_database_that_hangs_does_not_hold_up_who_sends(
    sender: Project, postgresql: PostgreSQL, redis: Redis, connected: bool
) -> None:
    if connected:
        sender.send("before", 0)
    with postgresql.frozen():
        began = time.monotonic()
        sender.send_many([("meanwhile", 0)] * MANY)
        assert time.monotonic() - began < TOGETHER
    assert messages(redis)[0] == MANY + connected
    comes_noted(sender)
    # The one that hung may have come late; the others were not even tried.
    rows = sender.rows()
    assert [json.loads(row["args"])[0] for row in rows].count("meanwhile") <= 1
    assert sender.report()["not_noted"] >= MANY


def comes_noted(sender: Project) -> None:
    """Send until a row is written again, as it is some seconds after the database is there."""

    def noted() -> bool:
        sent = sender.send("after", 0)
        return sent in [row["task_id"] for row in sender.rows()]

    assert comes_true(noted, within=60)


@contextmanager
def locked(environment: dict[str, str]) -> Iterator[None]:
    """Let nobody else read or write the rows until the block ends."""
    with postgresql_session(environment) as session, session.transaction():
        session.execute("LOCK TABLE celeriac_ledger_dispatch")
        yield


@pytest.mark.parametrize("pause", [0, 5])
def test_a_lock_does_not_hold_up_who_sends(
    ledger_environment: dict[str, str], sender: Project, redis: Redis, pause: float
) -> None:
    """While one waits for it, no other one does, however short the pause is."""
    sender.call("work.ledger_help", "pause_for", pause)
    with locked(ledger_environment):
        began = time.monotonic()
        sender.send_many([("meanwhile", 0)] * MANY)
        assert time.monotonic() - began < TOGETHER
    assert messages(redis)[0] == MANY
    comes_noted(sender)
    assert sender.report()["not_noted"] >= MANY


def test_who_was_held_up_has_another_session_with_the_database(
    ledger_environment: dict[str, str], sender: Project
) -> None:
    with locked(ledger_environment):
        before, after = sender.call("work.ledger_help", "send_in_own_session", "it", "10min")
        assert before != after


def test_who_was_refused_keeps_its_session(ledger_environment: dict[str, str], sender: Project) -> None:
    """And with it its locks, say."""
    with locked(ledger_environment):
        before, after = sender.call("work.ledger_help", "send_in_own_session", "it", "50ms")
        assert before == after
    assert sender.rows() == []


def test_lock_does_not_hold_up_a_transaction_that_sends(
    ledger_environment: dict[str, str], sender: Project, redis: Redis
) -> None:
    """It goes on, with its own bound for a lock."""
    send = partial(sender.call, "work.ledger_help", "send_in_transaction_with_bound", "it")
    assert send(1) == "10min"
    with locked(ledger_environment):
        began = time.monotonic()
        assert send(MANY) == "10min"
        assert time.monotonic() - began < TOGETHER
    assert messages(redis)[0] == 1 + MANY
    assert len(sender.rows()) == 1


def test_a_transaction_that_is_undone_does_not_undo_the_count(
    ledger_environment: dict[str, str], sender: Project
) -> None:
    with locked(ledger_environment):
        sender.call("work.ledger_help", "send_in_own_session", "it", "50ms")
    sender.call("work.tasks", "send_in_transaction", "undone", True)
    assert sender.report()["not_noted"] == 0
    sender.send("after", 0)
    assert sender.report()["not_noted"] == 1


def test_what_is_sent_under_the_id_of_another_takes_its_row_over(sender: Project) -> None:
    """Whether that one has ended or not, and however often it was tried."""
    sender.send("first", 0, task_id="daily", retries=3, headers={"sent_by": "anna"})
    sender.send("second", 0, task_id="daily", task="early", countdown=600)
    row = sender.row("daily")
    assert (row["name"], row["retries"], row["sent_by"]) == ("work.tasks.early", 0, "")
    assert (json.loads(row["args"])[0], row["eta"] is None) == ("second", False)


def test_a_retry_that_could_not_be_sent_is_over(sender: Project, redis: Redis) -> None:
    sender.send("it", 0, task_id="it")
    redis.stop()
    options = {"task_id": "it", "retries": 1}
    answer = sender.ask({"task": "work.tasks.sleep", "args": [["it", 0]], "options": options})
    assert "OperationalError" in answer["error"]
    row = sender.row("it")
    assert (row["retries"], row["ended_at"] is None) == (1, False)


def test_it_can_be_switched_off(ledger_environment: dict[str, str], redis: Redis) -> None:
    environment = with_ledger(ledger_environment, CELERIAC_LEDGER_ENABLED=False)
    with running(environment) as project, worker(environment) as only:
        project.send("it", 0)
        only.waits(lambda: ended(environment) == ["it"], "task")
        only.waits(lambda: messages(redis) == (0, 0), "acknowledgement")
        assert project.rows() == []


def test_a_task_of_somebody_without_the_journal_leaves_nothing(
    ledger_environment: dict[str, str], sender: Project, redis: Redis
) -> None:
    with worker(ledger_environment) as only:
        send(redis, "it", 0)
        only.waits(lambda: ended(ledger_environment) == ["it"], "task")
        only.waits(lambda: messages(redis) == (0, 0), "acknowledgement")
        only.stop()
    assert sender.rows() == []
    assert sender.report()["not_marked"] == 0


def test_on_a_developers_computer_celerys_own_command_is_enough(bare_environment: dict[str, str], redis: Redis) -> None:
    """SQLite, and `celery -A demo worker`, which knows nothing of `celeriac.app`."""
    environment = with_ledger({**bare_environment, "BROKER_URL": redis.url})
    command = ["-A", "demo", "worker", "--concurrency=1", "--loglevel=INFO"]
    with supervised("django", "migrate", "-v0", environment=environment) as migration:
        assert migration.process.wait(60) == 0

    def rows() -> list[tuple[str, int, bool]]:
        with closing(sqlite3.connect(environment["SQLITE"], timeout=20)) as database:
            query = "SELECT args, starts, ended_at IS NOT NULL FROM celeriac_ledger_dispatch"
            return [(json.loads(args)[0], *others) for args, *others in database.execute(query)]

    with running(environment) as project:
        project.send("it", 0)
        assert rows() == [("it", 0, False)]
        with supervised("celeriac.celery", *command, environment=environment) as only:
            only.waits(lambda: rows() == [("it", 1, True)], "start and end")


# Not sent one by one: of so many, a busy computer's database may be late with one, which has no row then.
MANY_ENDED = """
INSERT INTO celeriac_ledger_dispatch
    (task_id, publication, retries, name, queue, parent, sent_by, worker, starts, sent_at, ended_at)
SELECT 'ended ' || number, '', 0, 'work.tasks.nothing', 'celery', '', '', '', 1, now(), now()
FROM generate_series(1, 1200) AS number
"""


def test_old_rows_are_forgotten_and_those_that_are_too_many(ledger_environment: dict[str, str], redis: Redis) -> None:
    environment = with_ledger(ledger_environment, CELERIAC_LEDGER_KEEP_ROWS=100, CELERIAC_LEDGER_KEEP_SECONDS=3600)
    with running(environment) as project:
        old, future = project.send("old", 0), project.send("future", 0, countdown=7 * 24 * 3600)
        waiting = project.send("open", 0)
        with postgresql_session(environment) as session:
            session.execute(MANY_ENDED)
            session.execute(
                "UPDATE celeriac_ledger_dispatch SET sent_at = now() - interval '2 hours' WHERE task_id = ANY(%s)",
                [[old, future]],
            )
        assert project.call("celeriac.ledger.retention", "prune") == 1101
        left = [row["task_id"] for row in project.rows()]
        assert left[:2] == [future, waiting]
        assert len(left) == 102
        assert project.call("celeriac.ledger.retention", "prune") == 0


def test_a_worker_forgets_what_is_old(ledger_environment: dict[str, str], sender: Project) -> None:
    old, new = sender.send("old", 0, queue="other"), sender.send("new", 0, queue="other")
    with postgresql_session(ledger_environment) as session:
        query = "UPDATE celeriac_ledger_dispatch SET sent_at = now() - interval '8 days'"
        session.execute(f"{query} WHERE task_id = %s", [old])
    with worker(ledger_environment) as only:
        only.waits(lambda: [row["task_id"] for row in sender.rows()] == [new], "one row")


def test_arguments_that_are_not_to_be_kept_are_not(sender: Project, redis: Redis) -> None:
    """And a task that is to be left out is."""
    hidden = sender.send("the secret", 0, task="secret")
    sender.send("outside", 0, task="unnoted", headers={"celeriac-ledger": "of another"})
    with redis_client.Redis.from_url(redis.url) as client:
        assert "celeriac-ledger" not in json.loads(client.lindex("celery", 0))["headers"]
    (row,) = sender.rows()
    assert row["task_id"] == hidden
    assert "the secret" not in repr(row)
    assert row["args"] is row["kwargs"] is None


def test_the_report_says_what_did_not_end_and_what_beat_did_not_send(
    ledger_environment: dict[str, str], sender: Project, redis: Redis
) -> None:
    with worker(ledger_environment) as only:
        sent = sender.send("it", task="wait_for_file", time_limit=600)
        only.waits(lambda: sender.row(sent)["starts"] == 1, "start")
        assert sender.report()["never_ended"] == 0
    with postgresql_session(ledger_environment) as session:
        session.execute("UPDATE celeriac_ledger_dispatch SET overdue_at = overdue_at - interval '1 hour'")
    sender.call("work.ledger_help", "make_entries", {"late": 600, "in time": 30, "disabled late": 600})
    report = sender.report()
    assert (report["never_ended"], report["beat_is_late"]) == (1, ["late"])

    port = free_port()
    served = ["--preload", *NO_CONTROL_SOCKET, f"--bind=127.0.0.1:{port}", "celeriac.web.wsgi"]
    with supervised("gunicorn", *served, environment=ledger_environment) as gunicorn:
        gunicorn.told("READY=1")
        assert asked(port) == (200, sender.report())
    with supervised("gunicorn", *served, environment={**ledger_environment, "MORE_APPS": ""}) as gunicorn:
        gunicorn.told("READY=1")
        assert asked(port)[0] == 404


def asked(port: int) -> tuple[int, Any]:
    """Ask a site for the journal in numbers."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        client.request("GET", "/-/celeriac/ledger", headers=headers)
        answer = client.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        client.close()
