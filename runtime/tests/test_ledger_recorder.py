"""What workers say of tasks comes to the rows of just these, and what cannot is dropped alone."""

import json
import signal
from datetime import UTC, datetime

import pytest
import redis as redis_client
from environment import postgresql_session
from ledgers import Project, ended, kill
from supervised import Supervised
from testkit.postgresql import PostgreSQL
from testkit.redis import Redis
from testkit.waiting import comes_true
from workers import POOLS, let_end, messages, record, worker

ONE = "--concurrency=1"


def closed(running: Supervised, sender: Project) -> None:
    """Wait until no row is open."""
    running.waits(lambda: sender.open() == 0, "all rows closed")


@POOLS
def test_starts_and_ends_come_to_the_journal(ledger_environment: dict[str, str], sender: Project, pool: str) -> None:
    """Whenever the message is acknowledged."""
    with worker(ledger_environment, f"--pool={pool}") as only:
        late = sender.send("late", task="wait_for_file", time_limit=600)
        early = sender.send("early", 1, task="early")
        only.waits(lambda: sender.row(late)["starts"] == 1, "start")
        row = sender.row(late)
        assert (row["ended_at"], row["worker"].startswith("worker-")) == (None, True)
        assert row["started_at"] >= row["sent_at"]
        assert (row["overdue_at"] - row["started_at"]).total_seconds() >= 600
        only.waits(lambda: sender.row(early)["ended_at"] is not None, "end")
        assert sender.row(early)["starts"] == 1
        let_end(ledger_environment, "late")
        closed(only, sender)
    assert sender.report()["doubled"] == 0


def test_a_stopping_worker_writes_what_is_left(ledger_environment: dict[str, str], sender: Project) -> None:
    """It would not have written it for an hour."""
    with worker(ledger_environment, "--include=work.unhurried") as only:
        sent = sender.send("it", task="wait_for_file")
        only.waits(lambda: record(ledger_environment) == ["began it"], "start")
        only.process.send_signal(signal.SIGTERM)
        only.told("STOPPING=1")
        assert sender.row(sent)["starts"] == 0
        let_end(ledger_environment, "it")
        only.process.wait(60)
    row = sender.row(sent)
    assert (row["starts"], row["ended_at"] is None) == (1, False)


def test_a_task_that_replaces_itself_runs_to_its_end(ledger_environment: dict[str, str], sender: Project) -> None:
    """Under the same id, in the same attempt; its row is that of the other one."""
    with worker(ledger_environment) as only:
        sent = sender.send("it", task="replaced")
        only.waits(lambda: ended(ledger_environment) == ["it"], "the other one")
        closed(only, sender)
    row = sender.row(sent)
    assert (row["name"], row["starts"]) == ("work.tasks.sleep", 1)
    assert record(ledger_environment) == ["replaced it", "began it", "ended it"]


def test_a_row_is_of_the_last_attempt(ledger_environment: dict[str, str], sender: Project) -> None:
    with worker(ledger_environment) as only:
        headers = {"sent_by": "anna", "rerun_of": "another"}
        sent = sender.send("it", 0, "other", task="retry_once", headers=headers)
        only.waits(lambda: messages_of(sender, sent) == (1, 0), "retry")
        only.stop()
    row = sender.row(sent)
    assert (row["sent_by"], row["parent"], row["queue"]) == ("anna", "another", "other")
    assert (row["started_at"], row["ended_at"]) == (None, None)
    with worker(ledger_environment, "--queues=other") as second:
        closed(second, sender)
    assert sender.row(sent)["starts"] == 1


def messages_of(sender: Project, task_id: str) -> tuple[int, int]:
    """Return which attempt a row is of, and how often that one was started."""
    row = sender.row(task_id)
    return row["retries"], row["starts"]


def test_the_end_of_one_does_not_close_another_under_the_same_id(
    ledger_environment: dict[str, str], sender: Project, redis: Redis
) -> None:
    with worker(ledger_environment) as only:
        sender.send("first", task="wait_for_file", task_id="daily")
        only.waits(lambda: sender.row("daily")["starts"] == 1, "start")
        sender.send("second", 0, task_id="daily", queue="other")
        let_end(ledger_environment, "first")
        only.waits(lambda: messages(redis) == (0, 0), "acknowledgement")
        only.stop()  # it has said everything then
        assert ended(ledger_environment) == ["first"]
    row = sender.row("daily")
    assert (row["starts"], row["started_at"], row["ended_at"]) == (0, None, None)
    with worker(ledger_environment, "--queues=other") as second:
        closed(second, sender)
    assert ended(ledger_environment) == ["first", "second"]


def test_a_second_start_runs_and_is_counted(ledger_environment: dict[str, str], sender: Project, redis: Redis) -> None:
    """Of one that has ended already, as far as the journal knows."""
    sent = sender.send("it", task="wait_for_file")
    with worker(ledger_environment, ONE) as only:
        only.waits(lambda: sender.row(sent)["starts"] == 1, "start")
        with postgresql_session(ledger_environment) as session:
            session.execute("UPDATE celeriac_ledger_dispatch SET ended_at = now()")
        kill(only.process)
    give_back(redis)
    let_end(ledger_environment, "it")
    with worker(ledger_environment, ONE) as only:
        only.waits(lambda: ended(ledger_environment) == ["it"], "second start")
        only.waits(lambda: sender.report()["doubled"] == 1, "count")
    assert record(ledger_environment) == ["began it", "began it", "ended it"]


def give_back(redis: Redis) -> None:
    """Put what a killed worker had back into its queue, as the visibility timeout does."""
    with redis_client.Redis.from_url(redis.url) as client:
        for tag, kept in client.hgetall("unacked").items():
            message, _, queue = json.loads(kept)
            message["headers"]["redelivered"] = True
            client.rpush(queue, json.dumps(message))
            client.hdel("unacked", tag)


def test_a_mark_that_cannot_be_written_is_dropped_alone(ledger_environment: dict[str, str], sender: Project) -> None:
    """The starts of one task are more than the column takes; what is beside it is written."""
    ids = sender.send_many([(f"{number}", 0) for number in range(20)])
    with postgresql_session(ledger_environment) as session:
        session.execute("UPDATE celeriac_ledger_dispatch SET starts = 2147483647 WHERE task_id = %s", [ids[7]])
    with worker(ledger_environment) as only:
        only.waits(lambda: sender.report()["not_marked"] > 0, "count")
        others = [task_id for task_id in ids if task_id != ids[7]]
        only.waits(
            lambda: all(
                row["starts"] == 1 and row["ended_at"] for row in sender.rows("WHERE task_id = ANY(%s)", others)
            ),
            "the others",
        )
        only.waits(lambda: len(ended(ledger_environment)) == 20, "all tasks")


@pytest.mark.parametrize("limit", [10**12, 10**15])
def test_a_time_limit_beyond_all_dates_is_none(ledger_environment: dict[str, str], sender: Project, limit: int) -> None:
    with worker(ledger_environment) as only:
        sent = sender.send("it", 0, task="early", time_limit=limit)
        closed(only, sender)
    row = sender.row(sent)
    assert (row["starts"], row["overdue_at"]) == (1, None)
    assert sender.report()["not_marked"] == 0


def test_a_task_may_be_started_more_often_than_a_small_number_can_say(
    ledger_environment: dict[str, str], sender: Project
) -> None:
    sent = sender.send("it", 0)
    with postgresql_session(ledger_environment) as session:
        session.execute("UPDATE celeriac_ledger_dispatch SET starts = 32767")
    with worker(ledger_environment) as only:
        closed(only, sender)
    assert sender.row(sent)["starts"] == 32768


def test_marks_wait_while_the_database_is_away(
    ledger_environment: dict[str, str], sender: Project, postgresql: PostgreSQL, redis: Redis
) -> None:
    """With the time at which it happened."""
    with worker(ledger_environment) as only:
        sent = sender.send("it", task="wait_for_file")
        only.waits(lambda: sender.row(sent)["starts"] == 1, "start")
        postgresql.stop()
        let_end(ledger_environment, "it")
        only.waits(lambda: messages(redis) == (0, 0), "acknowledgement")
        only.waits(lambda: only.log.read_text().count("marks are kept") > 3, "failures")
        before = datetime.now(UTC)
        postgresql.start()
        closed(only, sender)
    assert sender.row(sent)["ended_at"] < before


def test_what_is_kept_is_not_half_written(ledger_environment: dict[str, str], sender: Project) -> None:
    """The session ends between one row and the other, and each is written once in the end."""
    sender.send("one", 0, task_id="one")
    sender.send("two", 0, task_id="two")
    with postgresql_session(ledger_environment) as session:
        with session.transaction():
            session.execute("SELECT 1 FROM celeriac_ledger_dispatch WHERE task_id = 'two' FOR UPDATE")
            flush = {"import": "work.ledger_help", "call": "flush_until_done"}
            sender.begin({**flush, "args": ["one", "two"]})
            assert comes_true(lambda: end_the_waiting(ledger_environment), within=60)
        assert sender.answer() > 1
    assert [row["starts"] for row in sender.rows()] == [1, 1]


def end_the_waiting(environment: dict[str, str]) -> bool:
    """End the sessions that wait for another one; return whether there was one."""
    with postgresql_session(environment) as session:
        found = session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return found.fetchone() is not None


def test_no_more_marks_are_kept_than_fit(sender: Project) -> None:
    assert sender.call("work.ledger_help", "keep_marks", 10) == 10
