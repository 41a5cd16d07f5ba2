"""What ends its process each time is parked on RabbitMQ too; it can be read, and released."""

import itertools
import json
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import ChannelError
from celery import Celery
from kombu import Connection, Exchange, Producer, Queue
from ledgers import running, with_ledger
from supervised import Supervised
from testkit.rabbitmq import RabbitMQ
from testkit.redis import Redis
from testkit.waiting import comes_true
from workers import Unit, let_end, record, worker

from celeriac.parked import PARKED_HEADER, UNFINISHED, all_parked, count, release
from celeriac.transport.parking import PARKED
from celeriac.versions import has

KINDS = pytest.mark.parametrize("queue", ["classic", "quorum"], indirect=True)
NEIGHBOURS = {f"{number}" for number in range(6)}
ONE = "--concurrency=1"

_numbers = itertools.count(1)


@dataclass
class Rabbit:
    """A queue on RabbitMQ, and the environment of a worker that consumes it.

    The worker takes four messages for each process, and tries a task three times.
    """

    connection: Connection
    queue: str
    kind: str
    environment: dict[str, str]

    def send(self, name: str, *arguments: object, task: str = "work.tasks.sleep") -> str:
        """Send a task; return its id."""
        options: dict[str, Any] = {
            "task_default_queue": self.queue,
            "task_default_queue_type": self.kind,
        }
        url = self.environment["BROKER_URL"]
        with Celery(broker=url, set_as_current=False, changes=options) as sender:
            return str(sender.send_task(task, (name, *arguments)).id)

    def with_neighbours(self, *arguments: str, task: str) -> str:
        """Send a task among others; return its id."""
        for name in sorted(NEIGHBOURS)[:3]:
            self.send(name, 0)
        task_id = self.send(*arguments, task=task)
        for name in sorted(NEIGHBOURS)[3:]:
            self.send(name, 0)
        return task_id

    def size(self, queue: str = "") -> int:
        """Return how many messages wait in the queue, or another."""
        with self.connection.channel() as channel:
            return int(channel.queue_declare(queue or self.queue, passive=True).message_count)

    def counts(self) -> list[int]:
        """Return how often each message that waits did not end, as its header has it."""
        with self.connection.channel() as channel:
            waiting = [*iter(Queue(self.queue, channel=channel).get, None)]
            return [message.headers.get(UNFINISHED, 0) for message in waiting]

    def noted(self) -> list[Path]:
        """Return the files about what has begun."""
        return [*Path(self.environment["CACHE_DIRECTORY"], "celeriac-begun").glob("*")]

    def starts(self) -> Counter[str]:
        """Return how often each task began."""
        return Counter(line[6:] for line in record(self.environment) if line.startswith("began "))

    def ended(self) -> set[str]:
        """Return the names of the tasks that came to their end."""
        return {line[6:] for line in record(self.environment) if line.startswith("ended ")}

    def failed(self, task_id: str) -> bool:
        """Return whether a task has failed."""
        return result_of(self.environment, task_id)[0] == "FAILURE"

    def is_parked(self, only: Supervised, task_id: str) -> None:
        """Wait until a task is parked, and has failed."""
        only.waits(lambda: count(self.connection) == 1, "parked task")
        only.waits(lambda: self.failed(task_id), "failure")


def with_settings(environment: dict[str, str], **settings: object) -> dict[str, str]:
    """Return the environment of a worker that knows the deadly tasks, with more of its settings."""
    more = {"CELERY_IMPORTS": ["work.deadly"], **settings}
    cache = {"CACHE_DIRECTORY": environment["SCRATCH"]}  # of systemd
    return {**environment, **cache, "MORE_SETTINGS": json.dumps(more), "CELERIAC_TASK_DELIVERIES": "3"}


def result_of(environment: dict[str, str], task_id: str) -> tuple[str, str]:
    """Return a task's state and result as the database has them, "" for what it has not."""
    query = "SELECT status, result FROM django_celery_results_taskresult WHERE task_id = ?"
    with closing(sqlite3.connect(environment["SQLITE"], timeout=20)) as database:
        return database.execute(query, (task_id,)).fetchone() or ("", "")


@pytest.fixture
def queue(request: pytest.FixtureRequest, environment: dict[str, str], rabbitmq: RabbitMQ) -> Iterator[Rabbit]:
    """An empty queue, classic unless a test says otherwise, and nothing parked."""
    kind = getattr(request, "param", "classic")
    if kind == "quorum" and not has("use of quorum queues"):
        pytest.skip("off is the use of quorum queues")
    name = f"parked-{next(_numbers)}"
    settings: dict[str, object] = {
        "CELERY_TASK_DEFAULT_QUEUE": name,
        "CELERY_TASK_DEFAULT_QUEUE_TYPE": kind,
        "CELERY_WORKER_PREFETCH_MULTIPLIER": 4,
    }
    changed = with_settings({**environment, "BROKER_URL": rabbitmq.url}, **settings)
    with Connection(rabbitmq.url) as connection:
        with connection.channel() as channel:
            channel.queue_delete(PARKED)
        yield Rabbit(connection, name, kind, changed)


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process in another time zone."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@KINDS
def test_task_that_ends_its_process_is_parked_and_others_go_on(
    queue: Rabbit,
) -> None:
    with worker(queue.environment) as only:
        only.told("READY=1")
        task_id = queue.with_neighbours("poison", "killed", task="work.deadly.dies")
        queue.is_parked(only, task_id)
        only.waits(lambda: queue.ended() == NEIGHBOURS, "end of the others")
        only.waits(lambda: queue.size() == 0, "empty queue")
        only.stop()
    assert queue.size() == 0, "something was not acknowledged"
    assert queue.starts() == {**dict.fromkeys(NEIGHBOURS, 1), "poison": 3}
    for _ in range(2):  # to read it takes nothing away
        assert comes_true(lambda: count(queue.connection) == 1)
        (found,) = all_parked(queue.connection)
        assert (found.task_id, found.task) == (task_id, "work.deadly.dies")
        assert (found.times, found.queue) == (3, queue.queue)
        assert "SIGKILL" in found.reason
    result = result_of(queue.environment, task_id)[1]
    assert "WorkerLostError" in result
    assert f"{found.reason}; not ended 3 times, parked" in json.loads(result)["exc_message"][0]


@pytest.mark.parametrize("how", ["exits at once", "exits"])
def test_so_is_one_that_exits(queue: Rabbit, how: str) -> None:
    with worker(queue.environment, ONE) as only:
        task_id = queue.send("poison", how, task="work.deadly.dies")
        queue.is_parked(only, task_id)
    assert queue.starts() == {"poison": 3}


@pytest.mark.parametrize(
    ("queue", "pool", "how"),
    [("classic", "prefork", "kills the worker"), ("quorum", "threads", "exits at once")],
    indirect=["queue"],
)
def test_task_that_ends_its_worker_is_parked_and_others_go_on(queue: Rabbit, pool: str, how: str) -> None:
    """Others run beside it, and come back with it each time. The first time is not known to be its fault."""
    with ExitStack() as stack:
        unit = Unit(stack, queue.environment, f"--pool={pool}")
        queue.send("beside", task="work.tasks.wait_for_file")
        task_id = queue.with_neighbours("poison", how, task="work.deadly.dies")

        before = queue.starts()  # until the worker of now came

        def is_over() -> bool:
            nonlocal before
            starts = queue.starts()
            if unit.restart_if_ended():
                before = starts
            starts, parked = queue.starts(), count(queue.connection)
            # What has been lost twice begins alone. How often it began before is not known: the poison may be quicker.
            if parked or (before["poison"] == 3 and starts["beside"] > before["beside"]):
                let_end(queue.environment, "beside")
            return parked == 1 and queue.ended() == {*NEIGHBOURS, "beside"}

        assert comes_true(is_over, 120), (queue.starts(), unit.running.log.read_text()[-3000:])
        queue.is_parked(unit.running, task_id)
        unit.running.waits(lambda: queue.size() == 0, "empty queue")
        unit.running.stop()
    assert queue.size() == 0, "something was not acknowledged"
    assert queue.starts()["poison"] == 4
    (found,) = all_parked(queue.connection)
    assert (found.task_id, found.times, found.queue) == (task_id, 3, queue.queue)
    assert found.reason.endswith(" ended")
    assert f"{found.reason}; not ended 3 times, parked" in result_of(queue.environment, task_id)[1]
    assert queue.noted() == []
    assert release(queue.connection, task_id)
    assert queue.size() == 1


def test_a_task_that_ended_its_process_once_runs_again(queue: Rabbit) -> None:
    with worker(queue.environment, ONE) as only:
        only.told("READY=1")
        task_id = queue.send("unlucky", "killed", task="work.deadly.dies_once")
        success = ("SUCCESS", '"unlucky"')
        only.waits(lambda: result_of(queue.environment, task_id) == success, "success")
        only.stop()
    assert queue.starts() == {"unlucky": 2}
    assert (queue.size(), count(queue.connection)) == (0, 0)
    assert all_parked(queue.connection) == []


def test_what_is_put_back_is_the_same_but_for_the_count(queue: Rabbit) -> None:
    """It is also behind the others: the second task runs before the first runs again."""
    environment = queue.environment
    with Celery(broker=environment["BROKER_URL"], set_as_current=False) as sender:
        sender.conf.task_default_queue = queue.queue
        long = "x" * 3000
        sender.send_task(
            "work.deadly.dies_after_file",
            ("first",),
            {},
            priority=6,
            compression="gzip",
            headers={"mine": long},
            expiration=3000,
        )
    with worker(environment, ONE) as only:
        only.waits(lambda: queue.starts() == {"first": 1}, "first start")
        queue.send("second", task="work.tasks.wait_for_file")
        let_end(environment, "first")
        only.waits(lambda: queue.starts() == {"first": 1, "second": 1}, "second task")
        os.killpg(only.process.pid, signal.SIGKILL)
        only.process.wait()
    assert comes_true(lambda: queue.size() == 2)
    with queue.connection.channel() as channel:
        waiting = [*iter(Queue(queue.queue, channel=channel).get, None)]
        (again,) = [message for message in waiting if UNFINISHED in message.headers]
        assert again.headers[UNFINISHED] == 1
        assert again.headers["mine"] == long
        assert again.headers["compression"] == "application/x-gzip"
        assert again.properties["priority"] == 6
        assert again.properties["delivery_mode"] == 2
        assert again.properties["expiration"] == "3000000"
        assert again.decode()[0] == ["first"]


def test_a_task_that_is_released_begins_anew(queue: Rabbit) -> None:
    environment = {**queue.environment, "CELERIAC_TASK_DELIVERIES": "2"}
    with worker(environment, ONE) as first:
        first.told("READY=1")
        ids = {name: queue.send(name, "killed", task="work.deadly.dies") for name in ("other", "poison")}
        first.waits(lambda: count(queue.connection) == 2, "parked tasks")
        first.waits(lambda: queue.failed(ids["poison"]), "failure")
        first.stop()
    assert not release(queue.connection, "of nobody")
    assert release(queue.connection, ids["poison"])
    assert not release(queue.connection, ids["poison"])
    assert [each.task_id for each in all_parked(queue.connection)] == [ids["other"]]
    with queue.connection.channel() as channel:
        released = Queue(queue.queue, channel=channel).get()
        assert released is not None
        assert not {PARKED_HEADER, UNFINISHED} & released.headers.keys()
    with worker(environment, ONE) as second:
        second.waits(lambda: count(queue.connection) == 2, "parked task")
        assert "not counted" not in second.log.read_text()
    assert queue.starts() == {"other": 2, "poison": 4}


def test_what_cannot_go_back_stays_parked(queue: Rabbit) -> None:
    with worker(queue.environment, ONE) as only:
        task_id = queue.send("poison", "killed", task="work.deadly.dies")
        queue.is_parked(only, task_id)
    with queue.connection.channel() as channel:
        channel.queue_delete(queue.queue)
    with pytest.raises(ChannelError):
        release(queue.connection, task_id)
    assert [each.task_id for each in all_parked(queue.connection)] == [task_id]


# What is not counted, and what is executed nevertheless.


def test_a_drain_is_not_counted(queue: Rabbit) -> None:
    names = ["long", "0", "1", "2"]
    with worker(
        {**queue.environment, "CELERIAC_WORKER_SOFT_SHUTDOWN_TIMEOUT": "1", "CELERIAC_DRAIN_SECONDS": "600"}, ONE
    ) as first:
        for name in names:
            queue.send(name, task="work.tasks.wait_for_file")
        first.waits(lambda: queue.starts() == {"long": 1}, "running task")
        first.waits(lambda: queue.size() == 0, "messages taken in advance")
        first.process.send_signal(signal.SIGTERM)
        first.waits(lambda: queue.size() == 3, "messages back in the queue")
        first.process.send_signal(signal.SIGQUIT)  # the drain is over
        first.process.wait(60)
    assert queue.counts() == [0, 0, 0, 0]


def test_what_a_stopping_worker_had_or_lost_with_its_connection_is_not_counted(
    queue: Rabbit, rabbitmq: RabbitMQ
) -> None:
    """One more that is counted would be parked."""
    environment = {**queue.environment, "CELERIAC_TASK_DELIVERIES": "1"}
    with worker(environment, ONE) as first:
        queue.send("long", task="work.tasks.wait_for_file")
        first.waits(lambda: queue.starts()["long"] == 1, "running task")
        os.killpg(first.process.pid, signal.SIGKILL)
    with worker(environment, "--concurrency=2") as second:
        second.waits(lambda: len(queue.noted()) == 1, "note of what begins again")
        rabbitmq.disconnect()
        queue.connection.collect()  # this one is closed as well
        second.waits(lambda: queue.starts()["long"] == 3, "the same task over the next connection")
        second.process.send_signal(signal.SIGTERM)
        second.waits(lambda: queue.noted() == [], "notes gone")
        os.killpg(second.process.pid, signal.SIGKILL)
    with worker(environment, ONE) as third:
        third.waits(lambda: queue.starts()["long"] == 4, "start")
        let_end(environment, "long")
        third.waits(lambda: queue.noted() == [], "end")
        third.stop()
    assert (queue.size(), count(queue.connection)) == (0, 0)
    assert queue.ended() == {"long"}


def test_a_process_that_is_lost_in_a_drain_is(queue: Rabbit) -> None:
    with worker(queue.environment, ONE) as first:
        queue.send("poison", task="work.deadly.dies_after_file")
        first.waits(lambda: queue.starts() == {"poison": 1}, "running task")
        first.process.send_signal(signal.SIGTERM)
        first.told("STOPPING=1")
        let_end(queue.environment, "poison")
        first.process.wait(60)
    assert queue.counts() == [1]


@KINDS
def test_what_a_killed_worker_had_is_executed_by_another(queue: Rabbit) -> None:
    with worker(queue.environment, ONE) as first:
        first.told("READY=1")
        queue.send("long", task="work.tasks.wait_for_file")
        first.waits(lambda: queue.starts()["long"] == 1, "running task")
        queue.send("waits", 0)
        first.waits(lambda: queue.size() == 0, "message taken in advance")
        first.process.send_signal(signal.SIGSTOP)
        queue.send("popped", 0)  # it is given out, and the worker has not seen it
        first.waits(lambda: queue.size() == 0, "message given out")
        with worker(queue.environment, ONE) as second:
            second.told("READY=1")
            os.killpg(first.process.pid, signal.SIGKILL)
            let_end(queue.environment, "long")
            second.waits(lambda: queue.ended() == {"long", "waits", "popped"}, "end of all")
    assert count(queue.connection) == 0


def test_what_cannot_be_counted_runs_again_nevertheless(queue: Rabbit, rabbitmq: RabbitMQ) -> None:
    """The process is lost while RabbitMQ answers nothing.

    Celery's heartbeat would wait for RabbitMQ to confirm it, and the event loop with it.
    """
    with worker(queue.environment, ONE, "--without-heartbeat") as only:
        only.told("READY=1")
        task_id = queue.send("unlucky", task="work.deadly.dies_after_file")
        only.waits(lambda: queue.starts() == {"unlucky": 1}, "running task")
        with rabbitmq.frozen():
            let_end(queue.environment, "unlucky")
            only.waits(lambda: "back, and not counted" in only.log.read_text(), "warning")
        queue.is_parked(only, task_id)
    assert queue.starts()["unlucky"] > 3


def test_a_task_that_runs_out_of_memory_has_failed_and_that_is_all(queue: Rabbit) -> None:
    with worker(queue.environment, ONE) as only:
        task_id = queue.with_neighbours("poison", "runs out of memory", task="work.deadly.dies")
        only.waits(lambda: queue.ended() == NEIGHBOURS, "end of the others")
        only.waits(lambda: queue.failed(task_id), "failure")
        only.stop()
    assert queue.starts() == {**dict.fromkeys(NEIGHBOURS, 1), "poison": 1}
    assert "a task wants too much" in result_of(queue.environment, task_id)[1]
    assert (queue.size(), count(queue.connection)) == (0, 0)


def test_for_the_journal_a_parked_task_has_not_ended(queue: Rabbit, ledger_environment: dict[str, str]) -> None:
    """Somebody may release it."""
    more = json.loads(queue.environment["MORE_SETTINGS"])
    environment = {
        **with_ledger(ledger_environment, **more),
        "BROKER_URL": queue.environment["BROKER_URL"],
        "CELERIAC_TASK_DELIVERIES": "2",
    }
    with running(environment) as project, worker(environment, ONE) as only:
        task_id = project.send("unlucky", "killed", task="work.deadly.dies")
        only.waits(lambda: count(queue.connection) == 1, "parked task")
        only.waits(lambda: queue.starts() == {"unlucky": 2}, "second start")
        assert project.open() == 1
        assert release(queue.connection, task_id)
        only.waits(lambda: queue.starts() == {"unlucky": 4}, "two starts more")


# What RabbitMQ parks by itself.


def test_what_a_quorum_queue_gives_up_is_read_and_released(queue: Rabbit, far_from_greenwich: None) -> None:
    """Its limit is two returns; here somebody gives it back once more."""
    limited = Queue(
        queue.queue,
        Exchange(""),
        queue.queue,
        queue_arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": 2,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": PARKED,
        },
    )
    with queue.connection.channel() as channel:
        Queue(PARKED, channel=channel).queue_declare()
        limited(channel).queue_declare()
        headers = {"task": "work.tasks.sleep", "id": "the-limited-one", UNFINISHED: 2}
        Producer(channel).publish([["x", 0], {}, {}], routing_key=queue.queue, headers=headers)
        taken = limited(channel)
        for _ in range(3):
            message = None
            while message is None:
                message = taken.get()
            message.requeue()
        assert comes_true(lambda: count(queue.connection) == 1)
        (found,) = all_parked(queue.connection)
        assert (found.task_id, found.task) == ("the-limited-one", "work.tasks.sleep")
        assert (found.queue, found.times) == (queue.queue, 0)
        assert time.time() - 600 < found.since < time.time() + 60
        assert "delivery_limit" in found.reason
        assert release(queue.connection, "the-limited-one")
        released = taken.get()
        assert released is not None
        assert UNFINISHED not in released.headers
        assert not [name for name in released.headers if "death" in name]


# On Redis.


def test_on_redis_it_is_read_and_released_likewise(environment: dict[str, str], redis: Redis) -> None:
    options = {"global_keyprefix": "site:", "deliveries": 1}
    changed = with_settings(environment, CELERY_BROKER_TRANSPORT_OPTIONS=options)
    with Connection(redis.url, transport_options=options) as connection:
        with worker(changed, ONE) as only:
            ids = []
            for name in ("first", "second"):
                with Celery(broker=redis.url, set_as_current=False) as sender:
                    sender.conf.broker_transport_options = options
                    ids.append(sender.send_task("work.deadly.dies", (name, "killed")).id)
            only.waits(lambda: count(connection) == 2, "parked tasks")
            only.stop()
        found = {each.task_id: each for each in all_parked(connection)}
        assert [*sorted(found)] == sorted(ids)
        assert {each.times for each in found.values()} == {1}
        assert not release(connection, "of nobody")
        assert release(connection, ids[0])
        assert not release(connection, ids[0])
        assert release(connection, found[ids[1]].tag)
        assert (count(connection), all_parked(connection)) == (0, [])


def test_with_another_broker_nothing_is_parked() -> None:
    with Connection("memory://") as connection:
        assert (count(connection), all_parked(connection)) == (0, [])
        assert not release(connection, "of nobody")
