"""Queues on a cluster of RabbitMQ: what is in one is on several hosts, whatever the project says of its queues.

``CELERIAC_QUEUE_TYPE=quorum`` says that the broker is one. A quorum queue has its messages on most of its hosts before
it confirms one. Celery must know of each queue that it is one (it counts what a worker holds in another way, and lets
the broker hold what has a countdown), so it is said of those that the project declares, too; what must not outlive a
connection, and what is declared as another type by its name, is left alone.
(https://www.rabbitmq.com/docs/quorum-queues, https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/rabbitmq.html)
"""

import os
from collections.abc import Iterator, Mapping
from copy import copy
from importlib.metadata import version
from typing import Any

from celery import Celery
from kombu import Queue

from celeriac import internals
from celeriac.versions import has

VARIABLE = "CELERIAC_QUEUE_TYPE"
TYPE = "x-queue-type"
QUORUM = "quorum"
# A quorum queue is refused with it. RabbitMQ 4 has two classes of priorities without, and those before have none.
PRIORITIES = "x-max-priority"
FEATURE = "cluster of RabbitMQ"

_SETTINGS: Mapping[str, Any] = {
    "task_default_queue_type": QUORUM,
    "task_create_missing_queue_type": QUORUM,
    "broker_native_delayed_delivery_queue_type": QUORUM,
    "worker_detect_quorum_queues": True,
    "task_queue_max_priority": None,
}
# Where the project says nothing.
_PROPOSED: Mapping[str, Any] = {
    # Through a direct one nothing can be delayed by the broker, and a worker would hold it.
    "task_default_exchange_type": "topic",
    "task_create_missing_queue_exchange_type": "topic",
    # A broker that is frozen, or gone without a word behind what carries us there, is left.
    "broker_heartbeat": 20,
}


def is_wanted() -> bool:
    """Return whether queues are to be on several hosts."""
    return os.environ.get(VARIABLE) == QUORUM


def arguments(otherwise: str | None = None) -> dict[str, str]:
    """Return the arguments of a queue of ours.

    Args:
        otherwise: its type on a broker that is no cluster; None: what is usual there.
    """
    wanted = QUORUM if is_wanted() else otherwise
    return {TYPE: wanted} if wanted else {}


def lay(app: Celery) -> None:
    """Make all queues of an app quorum queues, where they are to be. Doing it again changes nothing.

    Args:
        app: of the project; it is changed in place.
    """
    if not is_wanted():
        return
    internals.delay_for_a_second_at_least()
    internals.route_to_a_queue()
    proposed = {name: value for name, value in _PROPOSED.items() if not internals.is_set(app, name)}
    queues = app.conf.task_queues
    if isinstance(queues, Mapping):
        queues = {name: _declared(options) for name, options in queues.items()}
    elif queues:
        queues = [_replicated(queue) for queue in queues]
    internals.set_over(app, **_SETTINGS, **proposed, task_queues=queues)


def faults(app: Celery) -> Iterator[str]:
    """Yield what an app has that a cluster cannot do.

    Args:
        app: of the project, as `lay` has left it.
    """
    if not has(FEATURE):
        yield (
            f"the project has Celery {version('celery')}, which cannot use queues that are on several hosts. "
            "Its lock wants celery 5.7, or the group `broker` has one host."
        )
        return
    for name, queue in app.amqp.queues.items():
        kind = (queue.queue_arguments or {}).get(TYPE, QUORUM)
        if kind != QUORUM and _is_lasting(queue):
            yield (
                f"the project declares the queue {name} as `{kind}`: it is on one host, and stands while that is lost. "
                f"Leave `{TYPE}` away in its `queue_arguments`."
            )


def _is_lasting(queue: Queue) -> bool:
    return bool(queue.durable and not queue.auto_delete and not queue.exclusive)


def _replicated(queue: Any) -> Any:
    """Return a queue as it is on a cluster."""
    if not isinstance(queue, Queue) or not _is_lasting(queue):
        return queue
    changed = copy(queue)
    changed.queue_arguments = _with_type(queue.queue_arguments)
    return changed


def _declared(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a queue is declared with on a cluster."""
    lasting = options.get("durable", True) and not (options.get("auto_delete") or options.get("exclusive"))
    return {**options, "queue_arguments": _with_type(options.get("queue_arguments"))} if lasting else {**options}


def _with_type(found: Mapping[str, Any] | None) -> dict[str, Any]:
    kept = {name: value for name, value in (found or {}).items() if name != PRIORITIES}
    return {TYPE: QUORUM, **kept}
