"""What a worker has of Redis's messages, it keeps when it loses the connection.

Celery takes them for lost with the connection. What it held for an ETA and what it had taken in
advance is forgotten, until Redis gives it out again after the visibility timeout. And where the
worker is just waiting for one more message, it ends with "Unrecoverable error": kombu wants to put
the others back into their queues, over a transport that it has just taken apart.
(Consumer.on_connection_error_after_connected in celery/worker, 5.7)

But a message in ``unacked`` belongs to no connection: whoever knows its tag may acknowledge it. So
nothing is put back over the lost connection. Over the next one, what runs is acknowledged when it
has ended, and what was not started goes back to its queue, in front. To a message that Redis has
forgotten, or has given out again meanwhile, nothing happens.

What a process of the pool was given in the moment before, and has not said that it runs, may run
twice: the pool forgets that it gave it (AsynPool.flush), so it goes back, too.
"""

import logging
from functools import partial
from typing import Any

from celery import Celery, bootsteps
from celery.worker import state

from celeriac import handback

_log = logging.getLogger(__name__)


def install(app: Celery) -> None:
    """Let the workers of this app keep their messages when they lose Redis."""
    app.steps["consumer"].add(Keeping)


class Keeping(bootsteps.StartStopStep):
    """Takes the messages of the consumer from one connection to the next.

    In between the event loop stands still: nothing is acknowledged there.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Celery hands over options; there are none here."""
        self._messages: dict[str, Any] = {}  # by their tags, in the order in which they came
        self._reserved: set[str] = set()
        lost = consumer.on_connection_error_after_connected
        consumer.on_connection_error_after_connected = partial(self._lost, consumer, lost)

    def _lost(self, consumer: Any, go_on: Any, error: Exception) -> None:
        if consumer.connection.transport.driver_type == "redis":
            for channel in consumer.connection.transport.channels:
                channel.do_restore = False
                if channel._qos is not None:
                    channel._qos._flush()  # of what is acknowledged
                    self._messages |= channel._qos._delivered
            self._reserved |= {each.id for each in state.reserved_requests}
        go_on(error)

    def start(self, consumer: Any) -> None:
        """Go on over this connection."""
        channel = consumer.task_consumer.channel
        running = self._running(consumer.pool)
        returned = []
        for tag, message in reversed([*self._messages.items()]):
            message.channel = channel
            channel.qos.append(message, tag)
            task_id = str(message.headers.get("id"))
            if task_id not in running:
                handback.requeue(message)
                returned.append(task_id)
            del self._messages[tag]
        self._reserved.clear()
        if returned:
            _log.info(
                "%d task(s), not started when the broker was lost, are back in the queue: %s",
                *handback.counted(returned),
            )

    def _running(self, pool: Any) -> set[str]:
        """Return the ids of the tasks that run, or will without the consumer, or just ended."""
        if handback.processes_of(pool) is None:
            return self._reserved  # a pool of threads has them all
        return {each.id for each in state.active_requests}
