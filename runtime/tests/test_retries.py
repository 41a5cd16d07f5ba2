"""A retry that cannot be sent: the task is not gone."""

import pytest
from testkit.rabbitmq import RabbitMQ
from workers import record, send, worker

NARROW = "narrow"


@pytest.fixture
def on_rabbitmq(environment: dict[str, str], rabbitmq: RabbitMQ) -> dict[str, str]:
    """The environment of a worker on a RabbitMQ in which nothing waits."""
    for queue in ("celery", NARROW):
        rabbitmq.forget(queue)
    return {**environment, "BROKER_URL": rabbitmq.url}


def test_a_task_whose_retry_is_refused_stays_in_its_queue(on_rabbitmq: dict[str, str], rabbitmq: RabbitMQ) -> None:
    """And goes on when there is room for it, which nobody but it would have told."""
    with worker(on_rabbitmq) as only:
        only.told("READY=1")
        with rabbitmq.narrow(NARROW):
            send(rabbitmq, "in the way", 0, queue=NARROW)
            send(rabbitmq, "again", 0, NARROW, task="retry_once")
            only.waits(lambda: record(on_rabbitmq).count("attempt again 0") > 1, "another first attempt")
        with worker(on_rabbitmq, f"--queues={NARROW}") as other:
            other.waits(lambda: "attempt again 1" in record(on_rabbitmq), "second attempt")


def test_a_task_whose_retry_nobody_would_take_has_failed(on_rabbitmq: dict[str, str], rabbitmq: RabbitMQ) -> None:
    with worker(on_rabbitmq) as only:
        only.told("READY=1")
        send(rabbitmq, "more than JSON knows", task="retry_with_a_lock")
        only.waits(lambda: "raised unexpected: EncodeError" in only.log.read_text(), "failure")
    assert record(on_rabbitmq) == ["attempt more than JSON knows"]


def test_what_a_project_rejects_is_its_own_affair(on_rabbitmq: dict[str, str], rabbitmq: RabbitMQ) -> None:
    with worker(on_rabbitmq) as only:
        only.told("READY=1")
        send(rabbitmq, "no", task="rejected")
        only.waits(lambda: "rejects no" in record(on_rabbitmq), "task")
        send(rabbitmq, "next", 0)
        only.waits(lambda: "ended next" in record(on_rabbitmq), "the next task")
    assert record(on_rabbitmq).count("rejects no") == 1
