"""On RabbitMQ: what a worker tells of itself holds up nothing.

With an alarm (memory, disk) RabbitMQ reads nothing more from a connection over which something is published; those
that only consume go on. Events go over a connection of their own, and a worker that waited in its event loop until one
is confirmed would not consume what makes room: nobody would, ever. So they are not confirmed, and dropped while
RabbitMQ says that it is blocked.
(https://www.rabbitmq.com/docs/connection-blocked; celery/worker/consumer/events.py, 5.4 to 5.7)
"""

from contextlib import suppress
from functools import partial
from typing import Any

from kombu import Connection

from celeriac.extension import ConsumerExtension


class BoundEvents(ConsumerExtension):
    """Gives the dispatcher of events a connection on which it waits for nothing."""

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._blocked = False
        consumer.connection_for_write = partial(self._connect, consumer)

    def start(self, consumer: Any) -> None:
        """Let events be dropped while RabbitMQ is blocked."""
        dispatcher = consumer.event_dispatcher
        if dispatcher and dispatcher.producer and _is_rabbitmq(dispatcher.connection):
            producer = dispatcher.producer
            producer.publish = partial(self._publish, dispatcher.connection, producer.publish)

    def _connect(self, consumer: Any, **options: Any) -> Connection:
        """Take the place of `Consumer.connection_for_write`, which is for events alone."""
        connection: Connection = consumer.app.connection_for_write(**options)
        self._blocked = False
        if _is_rabbitmq(connection):
            told = {"confirm_publish": False, "on_blocked": self._on_blocked, "on_unblocked": self._on_unblocked}
            connection.transport_options = {**(connection.transport_options or {}), **told}
        connected: Connection = consumer.ensure_connected(connection)
        return connected

    def _publish(self, connection: Connection, publish: Any, *arguments: Any, **options: Any) -> Any:
        if self._blocked:
            with suppress(TimeoutError):
                connection.drain_events(timeout=0)  # perhaps it says that it no longer is
        return None if self._blocked else publish(*arguments, **options)

    def _on_blocked(self, reason: str) -> None:
        self._blocked = True

    def _on_unblocked(self) -> None:
        self._blocked = False


def _is_rabbitmq(connection: Connection) -> bool:
    return bool(connection.transport.driver_type == "amqp")
