"""What is parked at a broker, and how it is released.

A message that did not end too often is parked (`celeriac.transport.recovery` on Redis,
`celeriac.worker.unfinished` on RabbitMQ): it is not lost, and ends no other process. On RabbitMQ it
is in the queue ``celeriac.poison``, with what is to be known of it in a header. RabbitMQ can put
messages there by itself, from a quorum queue with a delivery limit; these are known by its header
``x-death``. (https://www.rabbitmq.com/docs/dlx, https://www.rabbitmq.com/docs/quorum-queues)

With any other broker nothing is ever parked.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import redis
from kombu import Connection, Producer, Queue
from kombu.message import Message

from celeriac.broker import channel_for_one_question, republish, waiting
from celeriac.transport import parking
from celeriac.transport.parking import PARKED, Parked

__all__ = ["Parked", "all_parked", "count", "release"]

# In the headers of a message on RabbitMQ: how often it did not end.
UNFINISHED = "celeriac-unfinished"
# In those of a parked one: {"task", "id", "reason", "times", "since", "queue"}.
PARKED_HEADER = "celeriac-parked"

# Who releases a message lets it begin anew, and these are RabbitMQ's own.
_LEFT_BEHIND = (PARKED_HEADER, UNFINISHED, "x-death", "x-first-death-", "x-last-death-", "x-delivery-count")


def all_parked(connection: Connection) -> list[Parked]:
    """Return what is parked.

    Args:
        connection: to the broker. On RabbitMQ the messages are taken and put back: meanwhile, and
            for a moment afterwards, somebody else sees fewer.
    """
    if _is("redis", connection):
        return [*parking.all_parked(*_redis(connection))]
    if _is("amqp", connection) and waiting(connection, PARKED):
        with _messages(connection) as messages:
            return [_parked(each) for each in messages]
    return []


def count(connection: Connection) -> int:
    """Return how many messages are parked.

    Args:
        connection: to the broker.
    """
    if _is("redis", connection):
        client, prefix = _redis(connection)
        return int(client.hlen(prefix + PARKED))
    return waiting(connection, PARKED) if _is("amqp", connection) else 0


def release(connection: Connection, tag_or_id: str) -> bool:
    """Requeue one message, behind the others; it begins anew.

    Args:
        connection: to the broker.
        tag_or_id: the id of its task, or `Parked.tag`.

    Returns:
        Whether it was parked.

    Raises:
        kombu.exceptions.OperationalError: the broker is away, or on RabbitMQ there is no such queue
            any more. The message is still parked.
    """
    if _is("redis", connection):
        return _release_on_redis(connection, tag_or_id)
    if _is("amqp", connection) and waiting(connection, PARKED):
        return _release_on_rabbitmq(connection, tag_or_id)
    return False


def _is(driver_type: str, connection: Connection) -> bool:
    return bool(connection.transport.driver_type == driver_type)


def _redis(connection: Connection) -> tuple["redis.Redis", str]:
    """Return a client that leaves keys as they are, and their prefix."""
    channel = connection.default_channel
    return redis.Redis(connection_pool=channel.pool), channel.global_keyprefix


def _release_on_redis(connection: Connection, tag_or_id: str) -> bool:
    client, prefix = _redis(connection)
    if parking.release(client, tag_or_id, prefix):
        return True
    found = parking.all_parked(client, prefix)
    tag = next((each.tag for each in found if each.task_id == tag_or_id), None)
    return tag is not None and parking.release(client, tag, prefix)


def _release_on_rabbitmq(connection: Connection, task_id: str) -> bool:
    with _messages(connection) as messages:
        for message in messages:
            parked = _parked(message)
            if parked.task_id == task_id:
                _return(connection, message, parked.queue)
                message.ack()
                return True
    return False


def _return(connection: Connection, message: Message, queue: str) -> None:
    """Publish a message once more, and wait until the broker has it in a queue."""
    headers = {name: value for name, value in message.headers.items() if not name.startswith(_LEFT_BEHIND)}
    options = {**(connection.transport_options or {}), "confirm_publish": True}
    with connection.clone(transport_options=options) as confirming:
        producer = Producer(confirming.default_channel)
        republish(message, producer, queue, headers, mandatory=True)


@contextmanager
def _messages(connection: Connection) -> Iterator[Iterator[Message]]:
    """Give what is parked, the longest first, one message after the other."""
    with channel_for_one_question(connection) as channel:
        get: Callable[[], Message | None] = Queue(PARKED, channel=channel).get
        yield iter(get, None)


def _parked(message: Message) -> Parked:
    details = message.headers.get(PARKED_HEADER) or _of_the_broker(message)
    task_id = str(details["id"])
    return Parked(
        tag=task_id,
        task_id=task_id,
        task=str(details["task"]),
        reason=details["reason"],
        times=details["times"],
        since=details["since"],
        queue=details["queue"],
    )


def _of_the_broker(message: Message) -> dict[str, Any]:
    """Return what there is to be known of a message that RabbitMQ has put there.

    How often it was given out is not (3.10).
    """
    headers = message.headers
    death: dict[str, Any] = next(iter(headers.get("x-death") or ()), {})
    since = death.get("time", datetime.now(UTC))
    return {
        "task": headers.get("task"),
        "id": headers.get("id"),
        "reason": f"{death.get('reason', 'unknown')}, says RabbitMQ",
        "times": int(headers.get("x-delivery-count", 0)),
        "since": since.replace(tzinfo=UTC).timestamp(),
        "queue": death.get("queue", ""),
    }
