"""On RabbitMQ, too, a message that did not end is counted, and parked if that was too often.

RabbitMQ says of a message only that it was given out before, so that one which ends every process
that runs it would go round for ever. A message cannot be changed where it lies. So a copy with the
count in a header (`UNFINISHED`) is put into the same queue, behind the others, and then the message
is acknowledged. The last time the copy goes to the queue ``celeriac.poison`` (`celeriac.parked`),
and the task has failed.

The copy is confirmed by the broker before the message is acknowledged: cut in two, the task is
there twice. What cannot be copied is requeued as it is, uncounted. What comes back by a stop, a drain
or a lost connection is not counted. Which message has ended its whole worker is another matter
(`celeriac.worker.begun`). (https://www.rabbitmq.com/docs/confirms)
"""

import logging
import time
from typing import Any

from amqp.exceptions import NotFound
from celery import Celery
from kombu import Connection, Producer, Queue

from celeriac import quorum
from celeriac.broker import connect, republish
from celeriac.internals import queue_by_tag
from celeriac.parked import PARKED_HEADER, UNFINISHED
from celeriac.transport.parking import PARKED
from celeriac.transport.recovery import DELIVERIES
from celeriac.worker.unregistered import queue_of

# A broker that is busy may take so long to confirm a copy; the event loop waits for that.
PATIENCE_SECONDS = 5.0
# After a failure so long none is tried: many processes may be lost together, and each try can take
# the event loop some seconds.
PAUSE_SECONDS = 10.0

_pause_until = 0.0  # time.monotonic()

_log = logging.getLogger(__name__)


def requeue_or_park(consumer: Any, request: Any, reason: str) -> int:
    """Requeue a message, counted, or park it.

    Args:
        consumer: Celery's.
        request: what did not end.
        reason: why.

    Returns:
        How often it did not end, if it is to be acknowledged now; 0 if it is to be rejected.
    """
    message = request.message
    if not is_ours(consumer, message) or time.monotonic() < _pause_until:
        return 0
    times = times_of(message) + 1
    queue = _queue_of(consumer, message)
    try:
        if times >= DELIVERIES:
            _park(consumer.app, request, reason, times, queue)
        else:
            _publish(consumer.app, message, queue, {**message.headers, UNFINISHED: times})
    except Exception as error:
        _pause()
        words = request.name, request.id, reason, error
        _log.warning("Task %s[%s] did not end (%s): back, and not counted: %r", *words)
        return 0
    return times


def times_of(message: Any) -> int:
    """Return how often a message that came over RabbitMQ did not end."""
    return int(message.headers.get(UNFINISHED, 0))


def may_be_counted(consumer: Any, message: Any) -> bool:
    """Return whether a message came over RabbitMQ, and not for the first time."""
    again = message.delivery_info.get("redelivered") or UNFINISHED in message.headers
    return bool(again) and is_ours(consumer, message)


def is_parked(times: int) -> bool:
    """Return whether what did not end so often is parked."""
    return times >= DELIVERIES


def is_ours(consumer: Any, message: Any) -> bool:
    """Return whether a message came over RabbitMQ, and over the connection that there is now.

    What came over one that is lost, the broker has given back already.
    """
    current = consumer.task_consumer and consumer.task_consumer.channel
    if message.channel is not current or consumer.connection is None:
        return False
    return bool(consumer.connection.transport.driver_type == "amqp" and message.channel.is_open)


def _queue_of(consumer: Any, message: Any) -> str:
    """Return the name of the queue that a message was in."""
    tag = message.delivery_info.get("consumer_tag")
    return queue_by_tag(consumer.task_consumer, tag) or queue_of(consumer.task_consumer.queues, message)


def _park(app: Celery, request: Any, reason: str, times: int, queue: str) -> None:
    message = request.message
    details = {
        "task": request.name,
        "id": request.id,
        "reason": reason,
        "times": times,
        "since": time.time(),
        "queue": queue,
    }
    headers = {name: value for name, value in message.headers.items() if name != UNFINISHED}
    # It stays until somebody releases it, whatever its sender wished.
    lasting = {"delivery_mode": 2, "expiration": None}
    _publish(app, message, PARKED, {**headers, PARKED_HEADER: details}, **lasting)
    words = request.name, request.id, times, reason
    _log.error("Task %s[%s] did not end %d times (%s): parked", *words)


def _publish(app: Celery, message: Any, queue: str, headers: dict[str, Any], **changed: Any) -> None:
    """Publish a copy of a message, and wait until the broker has it.

    The connection is made for this: lost processes are rare, and one that stays open would be in
    every process that is forked.
    """
    connection = connect(app, PATIENCE_SECONDS)
    connection.transport_options["confirm_publish"] = True
    hosts = max(len(connection.alt), 1)
    try:
        connection.ensure_connection(max_retries=hosts - 1, interval_start=0)
        if queue == PARKED:
            _declare(connection)
        producer = Producer(connection.default_channel)
        republish(message, producer, queue, headers, mandatory=True, **changed)
    except Exception:
        connection.collect()  # who does not answer does not answer a goodbye
        raise
    connection.release()


def _declare(connection: Connection) -> None:
    """Make the queue of what is parked, unless an operator has made it in some other way.

    Classic, for a quorum queue counts how often it is read, and can have a limit (RabbitMQ 4 gives
    it one). On a cluster of ours it has none.
    """
    try:
        with connection.channel() as channel:
            channel.queue_declare(PARKED, passive=True)
    except NotFound:
        Queue(PARKED, queue_arguments=quorum.arguments("classic"), channel=connection.default_channel).queue_declare()


def _pause() -> None:
    global _pause_until
    _pause_until = time.monotonic() + PAUSE_SECONDS
