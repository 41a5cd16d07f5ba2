"""A RabbitMQ that lets those wait who send: workers go on and make room, and who sends hears of it."""

import json
from collections.abc import Iterator

import pytest
from celery import Celery
from celery.exceptions import OperationalError
from kombu import Connection
from testkit.rabbitmq import RabbitMQ
from workers import record, send, worker

from celeriac import broker, defaults
from celeriac.broker import bounded, memory

NAMES = {f"waits {number}" for number in range(30)}


@pytest.fixture
def full(environment: dict[str, str], rabbitmq: RabbitMQ) -> Iterator[dict[str, str]]:
    """The environment of a worker whose RabbitMQ is full, with tasks in it."""
    rabbitmq.forget("celery")
    for name in NAMES:
        send(rabbitmq, name, 0)
    told = {"CELERY_WORKER_SEND_TASK_EVENTS": True}
    with rabbitmq.full():
        yield {**environment, "BROKER_URL": rabbitmq.url, "MORE_SETTINGS": json.dumps(told)}


def test_a_worker_makes_room_though_it_can_tell_nobody(full: dict[str, str]) -> None:
    with worker(full, "--task-events") as running:
        running.waits(lambda: {line[6:] for line in record(full) if line.startswith("ended ")} == NAMES, "all tasks")


def test_who_sends_is_told_and_so_is_who_asks(full: dict[str, str], rabbitmq: RabbitMQ) -> None:
    app = Celery(broker=full["BROKER_URL"], set_as_current=False)
    app.conf.redis_socket_timeout = 1
    defaults.lay(app, retries=0)
    with pytest.raises(OperationalError):
        for _ in range(3):  # over one connection, of which it reads the first still
            app.send_task("work.tasks.nothing", retry_policy={"max_retries": 0})
    with bounded(Connection(rabbitmq.url)) as connection:
        assert memory(connection) == 1


def test_of_one_with_room_nobody_is_told_anything(rabbitmq: RabbitMQ) -> None:
    with broker.bounded(Connection(rabbitmq.url)) as connection:
        assert memory(connection) is None
