"""The broker: a connection on which nothing waits long, and what it says of itself."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amqp.exceptions import ChannelError, NotFound
from celery import Celery
from kombu import Connection, Producer
from kombu.transport import virtual
from redis import Redis
from redis.exceptions import ResponseError

from celeriac import internals

# A broker that is there answers at once; one that does not is asked again later.
TIMEOUT_SECONDS = 2.0

# With an alarm RabbitMQ answers nothing, and where it takes a message it confirms it at once. There is no such queue.
_TAKES_SECONDS = 1.0
_NOWHERE = "celeriac.nowhere"

# The queue of the tasks that no running worker knows (`celeriac.worker.unregistered`).
UNREGISTERED = "celeriac.unknown"

# A number with RabbitMQ, and a text with what kombu calls virtual.
NOT_FOUND = str(NotFound.code)

# What a transport writes into the properties of a message itself, and what is published by name.
_NO_PROPERTIES = {
    "delivery_info",
    "delivery_tag",
    "body_encoding",
    "application_headers",
    "content_type",
    "content_encoding",
    "expiration",
}


def connect(app: Celery, seconds: float = TIMEOUT_SECONDS) -> Connection:
    """Return a connection, not yet open, on which no operation waits long.

    Args:
        app: whose broker is meant.
        seconds: how long at most.
    """
    return bounded(app.connection_for_write(connect_timeout=seconds, heartbeat=0), seconds)


def bounded(connection: Connection, seconds: float = TIMEOUT_SECONDS) -> Connection:
    """Let no operation on a connection wait long, and return it.

    Args:
        connection: not yet open.
        seconds: how long at most.
    """
    connection.connect_timeout = seconds
    connection.transport_options = {
        **(connection.transport_options or {}),
        **_timeouts(connection.transport.driver_type, seconds),
    }
    return connection


def _timeouts(driver_type: str, seconds: float) -> dict[str, Any]:
    """Return the options by which a transport of kombu bounds one read or write, and an attempt."""
    return {
        "redis": {"socket_timeout": seconds, "socket_connect_timeout": seconds, "max_retries": 1},
        "amqp": {"read_timeout": seconds, "write_timeout": seconds, "max_retries": 1},
    }.get(driver_type, {})


@contextmanager
def channel_for_one_question(connection: Connection) -> Iterator[Any]:
    """Give a channel for a question whose answer may be an error.

    RabbitMQ closes a channel on which something went wrong. With its end, what was taken over it
    and not acknowledged is back.

    Args:
        connection: to the broker.
    """
    if connection.transport.driver_type != "amqp":
        yield connection.default_channel
        return
    channel: Any = connection.channel()
    try:
        yield channel
    finally:
        channel.close()


def waiting(connection: Connection, queue: str) -> int:
    """Return how many messages wait in a queue, of all priorities; 0 for one that is not there.

    On Redis an empty queue does not exist.

    Args:
        connection: to the broker.
        queue: its name.
    """
    with channel_for_one_question(connection) as channel:
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except ChannelError as error:
            if str(error.reply_code) != NOT_FOUND:
                raise
            return 0


def sizes(app: Celery, connection: Connection) -> dict[str, int]:
    """Return how many messages wait in each queue: those that the project declares, those of the inventory, and ours.

    Args:
        app: of the project. ``CELERIAC_QUEUES`` is a JSON list of what the workers of the inventory read.
        connection: to the broker.
    """
    chosen = json.loads(os.environ.get("CELERIAC_QUEUES") or "[]")
    return {name: waiting(connection, name) for name in dict.fromkeys([*app.amqp.queues, *chosen, UNREGISTERED])}


def listening(app: Celery, connection: Connection) -> set[str] | None:
    """Return the queues of the workers that listen for commands, one of each.

    Args:
        app: whose workers are meant.
        connection: to the broker.

    Returns:
        None where the broker does not tell: RabbitMQ. Redis, and all that kombu calls virtual, do.
    """
    channel: Any = connection.default_channel
    if not isinstance(channel, virtual.Channel):
        return None
    control: Any = app.control
    return {queue for _, _, queue in channel.get_table(control.mailbox.exchange.name)}


def inspector(app: Celery, connection: Connection, seconds: float) -> Any:
    """Return what asks all workers, and waits for no more answers than can come.

    Args:
        app: whose workers are meant.
        connection: to the broker.
        seconds: for which an answer is waited for; all of them, where the broker does not tell how many there are.

    Returns:
        A `celery.app.control.Inspect`, or None where nobody listens.
    """
    workers = listening(app, connection)
    if workers is None:
        return app.control.inspect(timeout=seconds, connection=connection)
    return app.control.inspect(timeout=seconds, limit=len(workers), connection=connection) if workers else None


def requeue(message: Any) -> None:
    """Requeue a message, in front of its queue where that can be chosen.

    Args:
        message: a received kombu message, neither acknowledged nor rejected.
    """
    qos: Any = getattr(message.channel, "qos", None)
    if not hasattr(qos, "restore_by_tag"):
        message.requeue()
        return
    # On Redis, to requeue is to queue up behind everybody else; this puts it in front. From then on
    # the message must not be touched: whoever receives it next knows it by the same tag.
    qos.restore_by_tag(message.delivery_tag)
    internals.forget(qos, message.delivery_tag)
    internals.mark_requeued(message)


def republish(message: Any, producer: Producer, queue: str, headers: dict[str, Any], **changed: Any) -> None:
    """Publish a message once more, unchanged but for its headers.

    Args:
        message: of kombu.
        producer: publishes it.
        queue: where it goes.
        headers: what it has in place of its own.
        changed: other properties, and options of `Producer.publish`.
    """
    properties = {name: value for name, value in message.properties.items() if name not in _NO_PROPERTIES}
    expiration = message.properties.get("expiration")  # in milliseconds, as AMQP has it
    options = {
        "exchange": "",
        "routing_key": queue,
        "headers": {name: value for name, value in headers.items() if name != "compression"},
        "compression": headers.get("compression"),
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "expiration": None if expiration is None else int(expiration) / 1000,
    }
    producer.publish(message.body, **{**properties, **options, **changed})


def memory(connection: Connection) -> float | None:
    """Return how full the broker is, from 0 to 1; publishers are refused at 1.

    Args:
        connection: to the broker.

    Returns:
        None where it has no limit, or does not tell: a Redis that keeps INFO from us, and a RabbitMQ that has room.
    """
    if connection.transport.driver_type == "amqp":
        return None if _takes(connection) else 1.0
    if connection.transport.driver_type != "redis":
        return None
    client: Any = Redis(connection_pool=connection.default_channel.pool)
    try:
        info = client.info("memory")
    except ResponseError:
        return None
    limit = info.get("maxmemory", 0)
    return info["used_memory"] / limit if limit else None


def _takes(connection: Connection) -> bool:
    """Return whether RabbitMQ takes messages: with an alarm it lets those who send wait (memory, disk).

    It is asked with two that go nowhere, for it reads the first one still, over a connection of its own, of no more use
    when nothing is read from it.
    """
    blocked: list[str] = []
    asking = bounded(connection.clone(), _TAKES_SECONDS)
    asking.transport_options["on_blocked"] = blocked.append
    try:
        channel: Any = asking.default_channel
        channel.confirm_select()
        for _ in range(2):
            message = channel.prepare_message(b"", content_type="text/plain", content_encoding="binary")
            channel.basic_publish_confirm(message, exchange="", routing_key=_NOWHERE, timeout=_TAKES_SECONDS)
    except TimeoutError:
        if not blocked:
            raise
    finally:
        if blocked:  # no goodbye would be answered
            amqp: Any = asking.connection
            amqp.collect()
        asking.release()
    return not blocked
