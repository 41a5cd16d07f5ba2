"""On a cluster of RabbitMQ each queue is on several hosts, and what Celery does otherwise there is as it was."""

from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue
from testkit.rabbitmq import RabbitMQ
from workers import record, worker

from celeriac import quorum
from celeriac.broker import UNREGISTERED
from celeriac.configure import configure
from celeriac.versions import has

CLUSTER = pytest.mark.skipif(not has(quorum.FEATURE), reason=f"off is the use of a {quorum.FEATURE}")
ARGUMENTS = {quorum.TYPE: quorum.QUORUM}


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose broker is a cluster."""
    monkeypatch.setenv(quorum.VARIABLE, quorum.QUORUM)


def app_with(**settings: Any) -> Celery:
    """Return an app with these settings, as a cluster wants it."""
    app = Celery("project", set_as_current=False, broker="amqp://nobody@127.0.0.1:1//")
    app.config_from_object(SimpleNamespace(**settings), namespace="CELERY")
    quorum.lay(app)
    return app


def kinds(app: Celery) -> dict[str, Any]:
    """Return the queues of an app with what they are."""
    return {name: (queue.queue_arguments or {}).get(quorum.TYPE) for name, queue in app.amqp.queues.items()}


DECLARED = {
    "as a list": [Queue("a", Exchange("a", type="topic")), Queue("b", queue_arguments={"x-max-priority": 9})],
    "as a mapping": {"a": {}, "b": {"queue_arguments": {"x-max-priority": 9}}},
}


@CLUSTER
@pytest.mark.parametrize("how", DECLARED)
def test_a_queue_that_a_project_declares_is_on_several_hosts(wanted: None, how: str) -> None:
    app = app_with(CELERY_TASK_QUEUES=DECLARED[how], CELERY_TASK_QUEUE_MAX_PRIORITY=9)
    assert [queue.queue_arguments for queue in app.amqp.queues.values()] == [ARGUMENTS, ARGUMENTS]
    assert app.amqp.queues["sent to by hand"].queue_arguments == ARGUMENTS


@CLUSTER
def test_what_goes_with_its_connection_is_left_alone(wanted: None) -> None:
    fleeting = [Queue("a", auto_delete=True), Queue("b", exclusive=True), Queue("c", durable=False)]
    assert kinds(app_with(CELERY_TASK_QUEUES=fleeting)) == {"a": None, "b": None, "c": None}


@CLUSTER
def test_what_a_project_has_on_one_host_by_its_own_word_is_refused(wanted: None) -> None:
    app = app_with(CELERY_TASK_QUEUES=[Queue("a", queue_arguments={quorum.TYPE: "classic"}), Queue("b")])
    (fault,) = quorum.faults(app)
    assert "queue a as `classic`" in fault


def test_a_celery_that_knows_no_such_queues_is_refused(wanted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quorum, "has", lambda name: False)
    (fault,) = quorum.faults(app_with())
    assert "Its lock wants celery 5.7" in fault


def test_on_one_host_nothing_of_that_is_laid() -> None:
    app = app_with(CELERY_TASK_QUEUES=[Queue("a")])
    assert kinds(app) == {"a": None}
    assert app.conf.task_default_exchange_type == "direct"


def forget(connection: Connection) -> None:
    """Delete what another kind of broker would have otherwise."""
    for name in ("celery", "mail", UNREGISTERED):
        connection.default_channel.queue_delete(name)
        if name != UNREGISTERED:
            connection.default_channel.exchange_delete(name)


@pytest.fixture
def on_cluster(environment: dict[str, str], rabbitmq: RabbitMQ) -> Iterator[dict[str, str]]:
    """The environment of processes whose broker is a cluster: of one, which does not know."""
    with Connection(rabbitmq.url) as connection:
        forget(connection)
        yield {**environment, "BROKER_URL": rabbitmq.url, quorum.VARIABLE: quorum.QUORUM}
        forget(connection)


@CLUSTER
def test_a_worker_runs_what_is_sent_at_once_and_what_has_a_countdown(
    wanted: None, on_cluster: dict[str, str], rabbitmq: RabbitMQ
) -> None:
    with worker(on_cluster) as only, closing(Celery(broker=rabbitmq.url, set_as_current=False)) as sender:
        only.told("READY=1")
        configure(sender, result_retries=0)
        # As the runtime lays it where a project says nothing: Celery delays what has no queue by its route badly.
        sender.conf.task_routes = {"*": {"priority": 4}}
        sender.send_task("work.tasks.sleep", ("now", 0))
        for name, countdown in (("half a second", 0.5), ("two seconds", 2)):
            sender.send_task("work.tasks.sleep", (name, 0), countdown=countdown)
        sender.send_task("work.tasks.retry_once", ("again", 0.5))
        sender.send_task("work.nobody_knows_it")
        ended = {"ended now", "ended half a second", "ended two seconds", "attempt again 0", "attempt again 1"}
        only.waits(lambda: ended <= {*record(on_cluster)}, "tasks with a countdown")
        only.waits(lambda: UNREGISTERED in replicated(rabbitmq), "queue of what nobody knows")
        only.stop()
    assert {"celery", "celery_delayed_0", "celery_delayed_27"} <= replicated(rabbitmq)


@CLUSTER
def test_a_retry_comes_back_to_the_queue_that_it_came_from(
    wanted: None, on_cluster: dict[str, str], rabbitmq: RabbitMQ
) -> None:
    """Again and again, whether it waited in the broker before or not; and it is not gone."""
    with (
        worker(on_cluster, "--queues=mail") as only,
        closing(Celery(broker=rabbitmq.url, set_as_current=False)) as sender,
    ):
        only.told("READY=1")
        configure(sender, result_retries=0)
        for name, options in (("at once", {}), ("later", {"countdown": 1})):
            sender.send_task("work.tasks.retry_once", (name, 1, None, 2), queue="mail", **options)
        attempts = {f"attempt {name} {number}" for name in ("at once", "later") for number in range(3)}
        only.waits(lambda: attempts <= {*record(on_cluster)}, "task that is tried again")
        only.stop()


def replicated(rabbitmq: RabbitMQ) -> set[str]:
    """Return the names of the queues that are on several hosts."""
    return {name for name, kind in rabbitmq.types().items() if kind == quorum.QUORUM}
