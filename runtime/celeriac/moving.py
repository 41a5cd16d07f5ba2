"""Moves tasks from one broker to another: those that wait where a site sent its tasks before (`site_broker_before`).

Old workers drain there, and give back what they have not begun; nobody else takes it any more. A task is moved with its
id, arguments, headers, ETA and priority. A move publishes, and waits until the broker has it, before it acknowledges:
cut in two, the task is there twice. What is parked stays where it is.
"""

import os
import threading
from collections.abc import Callable
from typing import Any

from celery import Celery
from kombu import Connection, Producer, Queue

from celeriac import priorities
from celeriac.broker import UNREGISTERED, bounded, connect, republish, waiting

# The address of the broker before, in the environment; empty where there is none.
BEFORE = "CELERIAC_BROKER_BEFORE_URL"

# So many at most from each queue at a time: whoever moves wants to stop soon.
BATCH = 500


def is_wanted() -> bool:
    """Return whether there is a broker before."""
    return bool(os.environ.get(BEFORE))


def connect_before() -> Connection:
    """Return a connection to the broker before, not yet open, on which no operation waits long."""
    return bounded(Connection(os.environ[BEFORE], transport_options={"priority_steps": priorities.REDIS_STEPS}))


def left(app: Celery) -> dict[str, int]:
    """Return how many messages wait in each queue of the broker before, where any do.

    Args:
        app: whose queues are meant.
    """
    with connect_before() as connection:
        found = {name: waiting(connection, name) for name in names(app)}
    return {name: count for name, count in found.items() if count}


def names(app: Celery) -> list[str]:
    """Return the queues from which there is something to move: not those of which each worker has its own.

    Args:
        app: whose queues are meant.
    """
    queues = app.amqp.queues.items()
    return [*(name for name, queue in queues if not queue.exchange or queue.exchange.type != "fanout"), UNREGISTERED]


def move(app: Celery, source: Connection, target: Connection, go_on: Callable[[], bool] = lambda: True) -> int:
    """Move what waits in the queues of an app; return how many there were.

    Args:
        app: whose queues are meant.
        source: where it waits.
        target: where it is to wait.
        go_on: whether the next one is to be moved.
    """
    _recover(source)
    return sum(_move(app, name, source, target, go_on) for name in names(app) if waiting(source, name))


def move_here(app: Celery, connection: Connection, stopped: threading.Event) -> int:
    """Move what waits in the broker before; return how many there were.

    Args:
        app: whose queues are meant.
        connection: to its broker.
        stopped: when it is set, no other task is moved.
    """
    with connect_before() as source:
        return move(app, source, connection, lambda: not stopped.is_set())


def move_back(app: Celery) -> int:
    """Move all that waits in the broker of an app to the one before; return how many there were.

    Args:
        app: of a release that was undone.
    """
    moved = 0
    with connect(app) as source, connect_before() as target:
        while count := move(app, source, target):
            moved += count
    return moved


def _recover(source: Connection) -> None:
    """Requeue what processes of this host had that are dead: no worker looks after that any more on Redis."""
    if recovery := getattr(source.default_channel, "recovery", None):
        recovery.scan(by_lease=False)


def _move(app: Celery, name: str, source: Connection, target: Connection, go_on: Callable[[], bool]) -> int:
    queue = Queue(name, channel=source.default_channel)
    # Such as the workers have it: with its highest priority, say, and for good.
    known = app.amqp.queues.get(name, Queue(name, routing_key=name))
    target.transport_options = {**(target.transport_options or {}), "confirm_publish": True}
    known(target.default_channel).declare()
    producer = Producer(target.default_channel)
    moved = 0
    while moved < BATCH and go_on():
        message: Any = queue.get()
        if message is None:
            break
        republish(message, producer, name, message.headers, mandatory=True)
        message.ack()
        moved += 1
    return moved
