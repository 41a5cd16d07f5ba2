"""A stopping worker requeues, at once, what it received and has not started.

By itself Celery returns such messages when the process ends, after the last running task: up to
the whole drain later, in which no other worker can have them. They are

- tasks held for their ETA or countdown, or by a rate limit,
- tasks that wait for a free process or thread of the pool,
- and one that nobody sees: Redis answers a question that was sent before the stop with a message,
  which would lie in the socket until the connection is closed.

What the pool has begun stays, and is acknowledged when it is done. What the soft shutdown cancels
after all, runs a second time: that is counted and logged. (celery/worker, kombu 5.7)
"""

import logging
import time
from collections.abc import Iterable
from typing import Any

from celery.utils.functional import noop
from celery.worker import state

from celeriac import internals
from celeriac.broker import requeue
from celeriac.extension import ConsumerExtension, WorkerExtension

# Until a pool process has said that it begins with a task that was already written to it.
SETTLE_SECONDS = 2.0
# Over what the server promises to answer in.
BRPOP_GRACE_SECONDS = 1.0
# A thread that has taken a task from its queue says so without waiting for anything.
THREAD_START_SECONDS = 0.1
# So many ids are named in one line of the log.
NAMED = 50

_log = logging.getLogger(__name__)


class RequeueOnStop(WorkerExtension):
    """Requeues when the worker closes.

    Of all that happens in a shutdown, `close` of the worker's steps comes first: after the event
    loop has ended, before the consumer forgets its requests and the pool is waited for.
    """

    requires = ()

    def close(self, worker: Any) -> None:
        """Requeue everything that is not started, if this is a warm shutdown."""
        consumer = getattr(worker, "consumer", None)
        if state.should_terminate or consumer is None or not consumer.task_consumer:
            return  # a cold shutdown requeues within seconds anyway
        try:
            requeued = _requeue_unstarted(worker, consumer)
        except Exception:
            # Most likely the broker is away. It gives them out again after its visibility timeout.
            _log.exception("tasks that are not started could not be requeued")
        else:
            if requeued:
                _log.info("%d task(s), not started, are requeued: %s", *counted(requeued))


class ReportCancelled(ConsumerExtension):
    """Logs at the end which tasks were cancelled here, and whether they run again."""

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._cancelled: list[Any] = []
        internals.on_cancel(consumer, self._note)

    def _note(self) -> None:
        # In a signal handler, where nothing may be logged.
        self._cancelled += [each for each in state.active_requests if each not in self._cancelled]

    def shutdown(self, consumer: Any) -> None:
        """Log what was cancelled. The pool has ended; this connection's messages are requeued next."""
        again = [each.id for each in self._cancelled if not each.acknowledged]
        lost = [each.id for each in self._cancelled if not each.task.acks_late]
        if again:
            _log.warning("%d task(s) did not finish and will run again: %s", *counted(again))
        if lost:
            _log.error(
                "%d task(s) did not finish and will NOT run again, because they are acknowledged when they start: %s",
                *counted(lost),
            )


def _requeue_unstarted(worker: Any, consumer: Any) -> list[str]:
    """Requeue what is not started; return the ids of these tasks."""
    refused: list[Any] = []
    channel = consumer.task_consumer.channel
    consumer.task_consumer.on_message = refused.append  # whatever still comes in
    # First of all: what is requeued before it, a question that is under way would take out again.
    # Its answer is there at once, or with kombu's own transport after `brpop_timeout`.
    internals.read_answer(channel, BRPOP_GRACE_SECONDS)
    consumer.task_consumer.cancel()
    recovery = getattr(channel, "recovery", None)
    if recovery is not None:
        # What a lost connection has brought: the first question over a new one may be to come.
        recovery.requeue_forgotten()

    held = _stop_timers(worker, consumer)
    _settle(worker)
    received = [each for each in state.requests.values() if each not in state.active_requests]
    waiting = {each.id: each for each in [*received, *held] if not each.acknowledged}
    for request in _startable(worker, waiting.values()):
        del waiting[request.id]

    # The last one first: each goes in front of the queue, and so they keep their order there.
    for message in reversed(refused):
        requeue(message)
    for request in reversed(waiting.values()):
        requeue(request.message)
        request.acknowledged = True
        state.task_ready(request)
    return [*waiting, *(str(message.headers.get("id")) for message in refused)]


def _stop_timers(worker: Any, consumer: Any) -> list[Any]:
    """See to it that nothing starts any more by itself; return what ETAs and rate limits held."""
    if consumer.hub is None:
        worker.timer.stop()  # a thread of its own
    held = []
    for request, entry in internals.scheduled(consumer):
        consumer.timer.cancel(entry)
        held.append(request)
    for bucket in filter(None, consumer.task_buckets.values()):
        held += [request for request, _ in bucket.contents]
        bucket.clear_pending()
    internals.clear_waiting(worker)
    return held


def _settle(worker: Any) -> None:
    """Take back from the pool what it has not begun, and wait until the rest says that it runs."""
    pool = worker.pool
    if hasattr(pool, "executor"):  # of threads
        pool.executor.shutdown(wait=False, cancel_futures=True)
        time.sleep(THREAD_START_SECONDS)
        return
    processes = internals.processes_of(pool)
    if processes is None or worker.hub is None:
        return
    internals.cancel_unwritten(processes, processes.outbound_buffer)
    # The consumer is cancelled, so that these turns of the event loop bring no new messages.
    worker.hub.call_later(SETTLE_SECONDS, noop)
    deadline = time.monotonic() + SETTLE_SECONDS
    turns = worker.hub.create_loop()
    while internals.unaccepted(processes) and time.monotonic() < deadline:
        next(turns)


def _startable(worker: Any, requests: Iterable[Any]) -> list[Any]:
    """Return those requests that a process may still start: requeued, they would run twice.

    They are requeued when this process ends, like everything that is not acknowledged by then.
    """
    processes = internals.processes_of(worker.pool)
    sent = set() if processes is None else internals.unaccepted(processes)
    return [request for request in requests if request.id in sent]


def counted(ids: list[str]) -> tuple[int, str]:
    """Return how many tasks these are, and their ids for a line of the log."""
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return len(ids), ", ".join(ids[:NAMED]) + more
