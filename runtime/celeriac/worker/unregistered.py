"""Tasks that a worker does not know are parked for one that does.

While two releases overlap, and after one was undone, a worker may receive a task that only the
other release has. Celery discards it. Here it is moved, with its id, arguments, headers and
priority, to the queue ``celeriac.unknown``, which workers scan every few seconds for tasks that
they know; these go back to the queue they came from. What nobody knows stays parked, and counted:
the endpoint ``workers`` and the status have the number.

A task in there is as in any other queue: its ETA and its expiry are looked at by the worker that
knows it. One that is revoked by the time it is received is not parked but dropped, as a worker
drops those that it knows: only this worker may have heard of the revocation.

A move publishes before it acknowledges. Where it is cut in two, the task is there twice: a task is
executed at least once, sometimes twice. (Consumer.on_unknown_task in celery/worker, 5.7)
"""

import logging
import threading
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

from celery import Celery, signals
from celery.worker import state
from kombu import Connection, Exchange, Producer, Queue

from celeriac import quorum
from celeriac.broker import TIMEOUT_SECONDS, UNREGISTERED, republish, requeue
from celeriac.extension import ConsumerExtension, is_over
from celeriac.worker.background import BrokerThread

# Where a parked message came from: {"task": name, "id": …, "queue": …}.
ORIGIN = "celeriac-origin"

# Between two scans of the queue, and how many messages one takes up at most.
SCAN_SECONDS = 10.0
BATCH = 100
# As long as nothing comes or goes, there is nothing new to find.
UNCHANGED_SECONDS = 60.0
# A task that cannot be parked, because the broker does not take it, is kept for so long.
KEEP_SECONDS = 10.0

_log = logging.getLogger(__name__)


class ParkUnregistered(ConsumerExtension):
    """Parks in the event loop, and scans what is parked in a thread."""

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        consumer.on_unknown_task = partial(_park, consumer, consumer.on_unknown_task)
        self._thread: BrokerThread | None = None

    def start(self, consumer: Any) -> None:
        """Begin to scan, once."""
        if self._thread is None:
            scan = UnregisteredScan(consumer.app).scan
            self._thread = BrokerThread(consumer.app, "celeriac-unknown", SCAN_SECONDS, scan)
            self._thread.start()

    def stop(self, consumer: Any) -> None:
        """Scan no more when the worker stops. A lost connection is not the end."""
        if self._thread is not None and is_over(consumer):
            self._thread.stop()

    def shutdown(self, consumer: Any) -> None:
        """Wait for the one move that may be under way: cut off, it would be undone in an hour."""
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(2 * TIMEOUT_SECONDS)


class UnregisteredScan:
    """Takes from the unregistered tasks those that this worker can execute."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._unknown_count = 0  # so many were there when a scan of all of them found none,
        self._unchanged_until = 0.0  # and until this time.monotonic() that may be relied on

    def scan(self, connection: Connection, stopped: threading.Event) -> None:
        """Go through the longest parked tasks; put those that are still unknown behind the others.

        Args:
            connection: a connection that nobody else uses.
            stopped: when it is set, no other task is moved.
        """
        queue = _queue(connection)
        there = queue.queue_declare().message_count
        if there == 0 or (there == self._unknown_count and time.monotonic() < self._unchanged_until):
            return
        found = 0
        producer = Producer(connection.default_channel)
        for _ in range(min(there, BATCH)):
            message = None if stopped.is_set() else queue.get()
            if message is None:  # another worker was faster, or this one stops
                break
            found += self._move_if_known(message, producer)
        self._unknown_count = 0 if found or there > BATCH else there
        self._unchanged_until = time.monotonic() + UNCHANGED_SECONDS

    def _move_if_known(self, message: Any, producer: Producer) -> bool:
        origin = message.headers.get(ORIGIN) or {}
        queues = self._app.amqp.queues
        known = origin.get("task") in self._app.tasks and origin["queue"] in queues.consume_from
        if not known:
            _move(message, producer, UNREGISTERED, message.headers)
            return False
        headers = {name: value for name, value in message.headers.items() if name != ORIGIN}
        _move(message, producer, origin["queue"], headers)
        _log.info("Task %s[%s] is known here: back to %s", *_words(origin))
        return True


def _park(consumer: Any, discard: Any, body: Any, message: Any, error: KeyError) -> None:
    """Take the place of `Consumer.on_unknown_task`, which is ``discard``."""
    origin = _origin(consumer, message)
    if origin is None:
        discard(body, message, error)  # every worker had it; those that know it have executed it
        return
    try:
        if origin["id"] in state.revoked:
            _drop(consumer, message, origin)
        else:
            with consumer.app.producer_pool.acquire(block=True, timeout=KEEP_SECONDS) as producer:
                _queue(producer.connection).declare()
                _move(message, producer, UNREGISTERED, {**message.headers, ORIGIN: origin})
            _log.warning("Task %s[%s] from %s is unknown here: parked", *_words(origin))
    except Exception:
        # Not at once: the queue would bring it back in the next moment, and so on.
        _log.exception("Task %s[%s] from %s is unknown here, not parked", *_words(origin))
        consumer.timer.call_after(KEEP_SECONDS, _try_again, (consumer, message))
        return
    signals.task_unknown.send(sender=consumer, message=message, exc=error, name=origin["task"], id=origin["id"])


def _try_again(consumer: Any, message: Any) -> None:
    """Requeue a message that could not be parked, if the broker has not done that by now."""
    channel = consumer.task_consumer and consumer.task_consumer.channel
    if message.channel is channel and not message.acknowledged:
        requeue(message)


def _drop(consumer: Any, message: Any, origin: dict[str, str]) -> None:
    """Do with a revoked task what a worker that knows it does."""
    properties = message.properties
    request = SimpleNamespace(
        name=origin["task"],
        chord=None,
        root_id=message.headers.get("root_id"),
        correlation_id=properties.get("correlation_id"),
        reply_to=properties.get("reply_to"),
        errbacks=None,
    )
    consumer.app.backend.mark_as_revoked(origin["id"], "revoked", request=request)
    message.ack()
    _log.info("Task %s[%s] from %s is unknown here and revoked: dropped", *_words(origin))


def _move(message: Any, producer: Producer, queue: str, headers: dict[str, Any]) -> None:
    """Publish a message once more, unchanged but for its headers, and then acknowledge it."""
    # Once again, if need be: a connection from the pool may be a dead one.
    republish(
        message,
        producer,
        queue,
        headers,
        retry=True,
        retry_policy={"max_retries": 1, "interval_start": 0},
    )
    message.ack()


def _origin(consumer: Any, message: Any) -> dict[str, str] | None:
    """Return what a task is and which of the consumed queues it came from.

    Returns:
        The content of the header `ORIGIN`; None for a task that was sent to all workers.
    """
    source = message.headers if "task" in message.headers else message.payload  # protocol 2, or 1
    exchange = message.delivery_info.get("exchange") or ""
    queues = consumer.task_consumer.queues
    if any(queue.exchange.type == "fanout" for queue in _bound(queues, exchange)):
        return None
    return {
        "task": str(source["task"]),
        "id": str(source.get("id")),
        "queue": queue_of(queues, message),
    }


def queue_of(queues: list[Queue], message: Any) -> str:
    """Return the name of the queue that a message came from, as well as it can be told.

    Args:
        queues: those that are consumed.
        message: of kombu.
    """
    exchange = message.delivery_info.get("exchange") or ""
    routing_key = message.delivery_info.get("routing_key") or ""
    bound = _bound(queues, exchange)
    fitting = (
        [queue.name for queue in queues if not exchange and queue.name == routing_key]
        or [queue.name for queue in bound if queue.routing_key == routing_key]
        or [queue.name for queue in [*bound, *queues]]
        or [routing_key]
    )
    return str(fitting[0])


def _bound(queues: list[Queue], exchange: str) -> list[Queue]:
    return [queue for queue in queues if queue.exchange and queue.exchange.name == exchange]


def _queue(connection: Connection) -> Queue:
    arguments = quorum.arguments()
    channel = connection.default_channel
    return Queue(UNREGISTERED, Exchange(""), UNREGISTERED, channel=channel, queue_arguments=arguments)


def _words(origin: dict[str, str]) -> tuple[str, str, str]:
    return origin["task"], origin["id"], origin["queue"]
