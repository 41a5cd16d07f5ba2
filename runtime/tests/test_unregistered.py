"""Tasks that a worker does not know: parked, returned, never discarded."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis as redis_client
from celery import Celery
from kombu import Connection, Queue
from testkit.rabbitmq import RabbitMQ
from testkit.redis import Redis
from workers import messages, record, send, worker

from celeriac.broker import requeue
from celeriac.worker.unregistered import _try_again

PARKED = "celeriac.unknown"


@pytest.fixture
def newer(environment: dict[str, str], project: Path) -> dict[str, str]:
    """The environment of a newer release of the project, which has one more module of tasks."""
    release = project.with_name("newer")
    shutil.copytree(project, release)
    (release / "work" / "more.py").write_text(
        "import time\n"
        "from celery import shared_task\n"
        "from work.tasks import _record\n"
        "@shared_task(bind=True)\n"
        "def new(self, name, *args, seconds=0, **kwargs):\n"
        "    time.sleep(seconds)\n"
        "    _record('new', name)\n"
        "    info = self.request.delivery_info\n"
        "    _record('saw', repr((self.request.id, args, kwargs, info['priority'],\n"
        "                         self.request.retries, self.request.headers)))\n"
    )
    with (release / "work" / "tasks.py").open("a") as module:
        module.write("import work.more\n")
    path = environment["PYTHONPATH"].replace(str(project), str(release))
    return {**environment, "PYTHONPATH": path, "CELERIAC_RELEASE": "fedcba987654"}


def new(broker: Redis | RabbitMQ, name: str, *arguments: object, **options: object) -> str:
    """Send a task that only the newer release knows."""
    return send(broker, name, *arguments, task="work.more.new", **options)


def results(environment: dict[str, str]) -> list[tuple[str, str]]:
    """Return the ids and states in the result store."""
    with closing(sqlite3.connect(environment["SQLITE"])) as database:
        found = database.execute("SELECT task_id, status FROM django_celery_results_taskresult")
        return found.fetchall()


def executed(environment: dict[str, str]) -> list[str]:
    """Return the names of the new tasks that were executed."""
    return [line[4:] for line in record(environment) if line.startswith("new ")]


@pytest.fixture
def client(redis: Redis) -> Iterator[Any]:
    """A client of the broker's Redis."""
    with redis_client.Redis.from_url(redis.url, decode_responses=True) as connected:
        yield connected


def test_a_worker_that_knows_them_executes_all_that_another_did_not(
    environment: dict[str, str], newer: dict[str, str], redis: Redis
) -> None:
    names = [f"{number}" for number in range(50)]
    with worker(environment) as old:
        old.told("READY=1")
        for name in names:
            new(redis, name, ignore_result=False)
        old.waits(lambda: messages(redis, PARKED) == (50, 0), "50 parked tasks")
        send(redis, "known", 0)
        old.waits(lambda: "ended known" in record(environment), "known task")
        log = old.log.read_text()
        assert log.count(" is unknown here: parked") == 50
        assert log.count("WARNING/MainProcess] Task work.more.new[") == 50
        old.stop()
    assert results(environment) == []
    with worker(newer) as young:
        young.waits(lambda: len(executed(newer)) == 50, "50 executed tasks")
        young.waits(lambda: messages(redis) == (0, 0), "no message left")
        assert sorted(executed(newer)) == sorted(names)
        assert messages(redis, PARKED) == (0, 0)
        assert young.log.read_text().count(" is known here: back to celery") == 50
    assert sorted({state for _, state in results(newer)}) == ["SUCCESS"]
    assert len(results(newer)) == 50


def test_both_releases_together_execute_everything(
    environment: dict[str, str], newer: dict[str, str], redis: Redis
) -> None:
    """The tasks are more than one worker takes at once, or whoever comes first may do them all."""
    with worker(environment) as old, worker(newer) as young:
        old.told("READY=1")
        young.told("READY=1")
        for number in range(20):
            new(redis, str(number), kwargs={"seconds": 0.3})
        young.waits(lambda: "unknown here: parked" in old.log.read_text(), "parked task")
        old.stop()
        young.waits(lambda: len(set(executed(newer))) == 20, "executed tasks")
        assert len(executed(newer)) == 20


def test_a_task_comes_through_the_parking_unchanged(
    environment: dict[str, str], newer: dict[str, str], redis: Redis
) -> None:
    due = datetime.now(UTC) + timedelta(seconds=8)
    past = datetime.now(UTC) - timedelta(seconds=1)
    with worker(environment) as old:
        old.told("READY=1")
        late = new(redis, "late", eta=due)
        long = "x" * 3000
        rich = new(
            redis, "rich", [1, long], kwargs={"b": None}, priority=6, retries=3, compression="gzip",
            headers={"mine": "kept"},
        )  # fmt: skip
        expired = new(redis, "expired", expires=past, ignore_result=False)
        old.waits(lambda: old.log.read_text().count(": parked") == 3, "three parked tasks")
        old.stop()
    with worker(newer) as young:
        young.waits(lambda: len(executed(newer)) == 2, "task with an ETA and another")
        assert datetime.now(UTC) >= due
        assert sorted(executed(newer)) == ["late", "rich"]
        saw = [line[4:] for line in record(newer) if line.startswith("saw ")]
        wanted = (rich, ([1, long],), {"b": None}, 6, 3, {"mine": "kept"})
        assert [line for line in saw if rich in line] == [repr(wanted)]
        assert any(late in line for line in saw)
    assert results(newer) == [(expired, "REVOKED")]


def test_a_revoked_task_is_not_parked(environment: dict[str, str], redis: Redis) -> None:
    with worker(environment) as old, Celery(broker=redis.url, set_as_current=False) as sender:
        old.told("READY=1")
        sender.control.revoke("the-revoked-one")
        old.waits(lambda: "the-revoked-one" in old.log.read_text(), "revocation")
        new(redis, "revoked", task_id="the-revoked-one", ignore_result=False)
        old.waits(lambda: "revoked: dropped" in old.log.read_text(), "dropped task")
        assert messages(redis, PARKED) == (0, 0)
        assert messages(redis) == (0, 0)
    assert results(environment) == [("the-revoked-one", "REVOKED")]


def test_what_nobody_knows_does_not_stand_before_what_is_known(
    environment: dict[str, str], newer: dict[str, str], redis: Redis, client: Any
) -> None:
    with worker(environment) as old:
        old.told("READY=1")
        for number in range(120):
            send(redis, str(number), task="of.nobody")
        old.waits(lambda: messages(redis, PARKED) == (120, 0), "120 parked tasks")
        new(redis, "last")
        old.waits(lambda: messages(redis, PARKED) == (121, 0), "one more")
        old.stop()
    with worker(newer) as young:
        young.waits(lambda: executed(newer) == ["last"], "executed task")
        young.waits(lambda: messages(redis, PARKED) == (120, 0), "the unknown ones")
        assert "ERROR" not in young.log.read_text()
        young.stop()
    left = {json.loads(text)["headers"]["id"] for text in client.lrange(PARKED, 0, -1)}
    assert len(left) == 120


def test_a_task_is_kept_while_the_broker_does_not_take_it(
    environment: dict[str, str], redis: Redis, client: Any
) -> None:
    with worker(environment) as old:
        old.told("READY=1")
        client.set(PARKED, "no list: every push fails, as it does on a full server")
        new(redis, "kept")
        old.waits(lambda: "not parked" in old.log.read_text(), "failure")
        assert messages(redis)[1] == 1
        send(redis, "known", 0)
        old.waits(lambda: "ended known" in record(environment), "known task")
        client.delete(PARKED)
        old.waits(lambda: messages(redis, PARKED) == (1, 0), "parked task")
        assert old.log.read_text().count("not parked") == 1, "it was tried too often"


def test_what_was_given_back_meanwhile_is_not_taken_from_who_has_it(redis: Redis) -> None:
    """As after a loss of the broker: the message has its tag still, and another worker has it."""
    new(redis, "kept")
    with Connection(redis.url) as first, Connection(redis.url) as other:
        channel = first.default_channel
        message = Queue("celery", channel=channel).get()
        requeue(message)
        assert Queue("celery", channel=other.default_channel).get() is not None
        _try_again(SimpleNamespace(task_consumer=SimpleNamespace(channel=channel)), message)
        assert messages(redis) == (0, 1)


def test_on_rabbitmq_a_task_comes_through_the_parking_unchanged(
    environment: dict[str, str], newer: dict[str, str], rabbitmq: RabbitMQ
) -> None:
    more = json.dumps({"CELERY_TASK_DEFAULT_QUEUE": "unknown-1"})
    on_rabbitmq = {"BROKER_URL": rabbitmq.url, "MORE_SETTINGS": more}
    with worker({**environment, **on_rabbitmq}) as old:
        old.told("READY=1")
        rich = new(
            rabbitmq, "rich", [1, "x" * 3000], kwargs={"b": None}, priority=6, compression="gzip",
            headers={"mine": "kept"}, queue="unknown-1",
        )  # fmt: skip
        old.waits(lambda: old.log.read_text().count(": parked") == 1, "parked task")
        old.stop()
    with worker({**newer, **on_rabbitmq}) as young:
        young.waits(lambda: executed(newer) == ["rich"], "executed task")
    saw = [line[4:] for line in record(newer) if line.startswith("saw ")]
    wanted = (rich, ([1, "x" * 3000],), {"b": None}, 6, 0, {"mine": "kept"})
    assert saw == [repr(wanted)]
