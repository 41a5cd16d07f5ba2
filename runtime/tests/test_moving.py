"""What waits in the broker before is moved to the one that is now: nothing is lost, and nothing is changed by it."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Queue
from testkit.rabbitmq import RabbitMQ
from testkit.redis import Redis
from workers import let_end, record, send, worker

from celeriac.broker import waiting
from celeriac.moving import BEFORE

Broker = Redis | RabbitMQ

WAYS = pytest.mark.parametrize("way", ["to rabbitmq", "to redis"])


@pytest.fixture
def ends(way: str, redis: Redis, rabbitmq: RabbitMQ) -> tuple[Broker, Broker]:
    """The broker before, and the one that is now."""
    rabbitmq.forget("celery")
    return (redis, rabbitmq) if way == "to rabbitmq" else (rabbitmq, redis)


@pytest.fixture
def moving(environment: dict[str, str], ends: tuple[Broker, Broker]) -> dict[str, str]:
    """The environment of a worker that moves."""
    before, now = ends
    return {**environment, "BROKER_URL": before.url, "CELERIAC_BROKER_URL": now.url, BEFORE: before.url}


def count(broker: Broker, queue: str = "celery") -> int:
    """Return how many messages wait in a queue."""
    with Connection(broker.url) as connection:
        return waiting(connection, queue)


def began(environment: dict[str, str]) -> Counter[str]:
    """Return how often each task began."""
    return Counter(line[6:] for line in record(environment) if line.startswith("began "))


@WAYS
def test_what_waits_is_executed_once_and_in_its_time(moving: dict[str, str], ends: tuple[Broker, Broker]) -> None:
    before, now = ends
    for number in range(20):
        send(before, f"{number}", 0, priority=number % 10)
    sent = time.time()
    send(before, "later", 0, countdown=8)
    with worker(moving) as running:
        running.waits(lambda: "ended later" in record(moving), "task with a countdown")
        late = time.time() - sent
        assert began(moving) == Counter([*map(str, range(20)), "later"])
        assert late >= 8
    assert count(before) == count(now) == 0


def raw(broker: Broker) -> tuple[Any, ...]:
    """Return what is in the message of a queue, which stays there."""
    with Connection(broker.url) as connection:
        message: Any = Queue("celery", channel=connection.default_channel).get()
        properties = [message.properties.get(name) for name in ("correlation_id", "priority", "delivery_mode")]
        # kombu says of one that was put back that it was.
        headers = {name: value for name, value in message.headers.items() if name != "redelivered"}
        found = (bytes(message.body), headers, message.content_type, message.content_encoding, *properties)
        message.requeue()
        return found


def test_what_is_moved_is_what_was_sent(environment: dict[str, str], redis: Redis, rabbitmq: RabbitMQ) -> None:
    """To RabbitMQ and back, by an undone release, with nothing that runs it."""
    rabbitmq.forget("celery")
    send(redis, "rich", [1, "x" * 3000], kwargs={"b": None}, compression="gzip", headers={"mine": "kept"})
    first = raw(redis)
    for before, now in ((redis, rabbitmq), (rabbitmq, redis)):
        undone = {**environment, "BROKER_URL": before.url, BEFORE: now.url}
        command = [sys.executable, "-m", "celeriac.release", "move_back"]
        said = subprocess.run(command, env=undone, check=True, capture_output=True, text=True).stdout
        assert "1 tasks moved" in said
        assert count(before) == 0
        assert raw(now) == first


@WAYS
def test_who_is_killed_while_it_moves_loses_nothing(moving: dict[str, str], ends: tuple[Broker, Broker]) -> None:
    before, now = ends
    names = [str(number) for number in range(300)]
    send_all(before, names)
    left = len(names)
    while left:
        with worker(moving) as running:
            running.waits(lambda seen=left: count(before) < seen - 60 or not count(before), "move")
            os.killpg(running.process.pid, signal.SIGKILL)
        left = count(before)
    with worker(moving) as running:
        # The last ones may be tasks that are there twice, and none of them begins.
        running.waits(lambda: set(began(moving)) == set(names) and not count(now), "task that was moved")
    assert count(before) == 0


def test_what_a_dead_worker_had_is_moved_too(environment: dict[str, str], redis: Redis, rabbitmq: RabbitMQ) -> None:
    rabbitmq.forget("celery")
    with worker({**environment, "BROKER_URL": redis.url}) as old:
        send(redis, "gate", task="wait_for_file")
        old.waits(lambda: record(environment) == ["began gate"], "running task")
        os.killpg(old.process.pid, signal.SIGKILL)
    let_end(environment, "gate")
    with worker({**environment, "CELERIAC_BROKER_URL": rabbitmq.url, BEFORE: redis.url}) as new:
        new.waits(lambda: "ended gate" in record(environment), "task of the dead one")


def send_all(broker: Broker, names: list[str]) -> None:
    """Send a task for each name."""
    with Celery(broker=broker.url, set_as_current=False) as sender:
        for name in names:
            sender.send_task("work.tasks.sleep", (name, 0), ignore_result=True)
