"""A worker keeps its messages across a reconnect to Redis.

Celery takes them for lost with the connection, and kombu wants to requeue them over a transport that
it has just taken apart: then the worker ends with "Unrecoverable error".
(Consumer.on_connection_error_after_connected in celery/worker, 5.7)

But a message belongs to this process, not to its connection (`celeriac.transport`). So nothing is
requeued over the lost one. Over the next one, what runs is acknowledged when it has ended, and the
transport requeues, in front, what this process holds and has forgotten.

Before 5.7 Celery also forgets what runs, and the pool whose end it should tell (AsynPool.flush): both are told again.

What a process of the pool was given in the moment before, and has not said that it runs, may run
twice: the pool forgets that it gave it (AsynPool.flush), so it is requeued, too.
"""

from functools import partial
from typing import Any

from celery.worker import state

from celeriac import internals
from celeriac.extension import ConsumerExtension


class KeepMessages(ConsumerExtension):
    """Takes what runs from one connection to the next.

    In between the event loop stands still: nothing is acknowledged there.
    """

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._running: list[Any] = []
        self._jobs: dict[int, Any] = {}
        lost = consumer.on_connection_error_after_connected
        consumer.on_connection_error_after_connected = partial(self._lost, consumer, lost)

    def _lost(self, consumer: Any, handle_loss: Any, error: Exception) -> None:
        channel = getattr(consumer.task_consumer, "channel", None)
        holder = getattr(channel, "holder", None)
        if holder is not None:
            self._running = [each for each in _running_requests(consumer.pool) if not each.acknowledged]
            running = {each.message.delivery_tag for each in self._running}
            processes = internals.processes_of(consumer.pool)
            self._jobs = internals.accepted(processes) if processes is not None else {}
            for each in consumer.connection.transport.channels:
                each.do_restore = False
                for tag in internals.remembered(each.qos) - running:
                    holder.give_up(tag)
            for _, entry in internals.scheduled(consumer):
                consumer.timer.cancel(entry)  # Celery 5.6 would start what is requeued
        handle_loss(error)

    def start(self, consumer: Any) -> None:
        """Go on over this connection."""
        if self._jobs:
            internals.know_again(internals.processes_of(consumer.pool), self._jobs)
            self._jobs = {}
        channel = consumer.task_consumer.channel
        while self._running:
            request = self._running.pop()
            request.message.channel = channel
            internals.remember(channel.qos, request.message)
            if not request.acknowledged:
                state.reserved_requests.add(request)  # before 5.7 Celery forgets what runs


def _running_requests(pool: Any) -> list[Any]:
    """Return the requests that run, or will without the consumer."""
    if internals.processes_of(pool) is None:
        return [*state.reserved_requests]  # a pool of threads has them all
    return [*state.active_requests]
