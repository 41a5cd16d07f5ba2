"""What Celery's worker tells the transport, and is told: which tasks began, and how they ended.

A pool process that dies leaves a message that did not end: it is requeued, and counted
(`celeriac.transport.recovery`; on RabbitMQ `celeriac.worker.unfinished`). So does a worker (on RabbitMQ
`celeriac.worker.begun`). A task that raises
MemoryError has failed like any other; Celery would raise it again in the worker, and end that. What
this process had when it lost its lease, and has not begun, is another worker's: it is dropped here.
A task that is parked has failed, and its state says so.
(celery/worker/request.py and strategy.py, 5.7)
"""

import base64
import logging
import weakref
from collections.abc import Callable
from functools import cache, partial, wraps
from pathlib import Path
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import WorkerLostError
from celery import Celery
from celery.app.task import Context
from celery.exceptions import TaskRevokedError
from celery.states import SUCCESS
from celery.utils.imports import symbol_by_name
from celery.worker import state
from kombu import serialization

from celeriac import internals
from celeriac.extension import WorkerExtension
from celeriac.transport import channel as channels
from celeriac.transport.parking import UNFINISHED
from celeriac.worker import unfinished
from celeriac.worker.begun import Begun

_log = logging.getLogger(__name__)

# What did not end so often runs one at a time, and who waits for that asks again so soon.
SUSPECT = 2
ALONE_SECONDS = 0.5

# Those of them that have begun here.
_suspects: "weakref.WeakSet[Any]" = weakref.WeakSet()
# The requests of what this process has, by the tags of their messages.
_requests: "weakref.WeakValueDictionary[str, Any]" = weakref.WeakValueDictionary()


class TaskMemoryError(Exception):
    """A task ran out of memory; the worker did not."""


class Deliveries(WorkerExtension):
    """Gives all tasks a request that tells the transport, before the consumer asks for its class."""

    def start(self, worker: Any) -> None:
        """Begin."""
        self._begun = Begun()
        request_class = cache(partial(_request_class, worker, self._begun))
        for task in worker.app.tasks.values():
            task.Request = request_class(symbol_by_name(task.Request))
        channels.on_lease_lost[:] = [partial(_drop, worker)]
        channels.on_parked[:] = [partial(_fail, worker.app)]

    def close(self, worker: Any) -> None:
        """Count nothing that the end of this worker is to blame for: it stops."""
        self._begun.close()


def _request_class(worker: Any, begun: Begun, base: Any) -> Any:
    class DeliveryRequest(base):  # Celery's class, or one of the project's own
        _is_lost = False
        _unfinished = ""  # why, once it did not end
        _note: Path | None = None

        def __init__(self, message: Any, *arguments: Any, **options: Any) -> None:
            super().__init__(message, *arguments, **options)
            _requests[message.delivery_tag] = self

        def __init_subclass__(cls) -> None:
            """Wrap what Celery defines anew in the class that it makes for each task, for speed."""
            super().__init_subclass__()
            if "execute_using_pool" in cls.__dict__:
                cls.execute_using_pool = _with_checks(worker, cls.execute_using_pool)

        @property
        def recovery(self) -> Any:
            """The recovery of the channel, None on other brokers."""
            return getattr(self.message.channel, "recovery", None)

        def mark_started(self) -> None:
            """Note that a message which did not end before, or may not have, is started."""
            if self.recovery is not None:
                if UNFINISHED in self.message.properties:
                    self.recovery.mark_started(self.message.delivery_tag)
            elif self._note is None and unfinished.may_be_counted(worker.consumer, self.message):
                self._note = begun.note(self)

        def is_counted(self) -> bool:
            """Return whether this has ended a worker before and is requeued for that, counted, or parked."""
            if self.recovery is not None or not unfinished.may_be_counted(worker.consumer, self.message):
                return False
            notes, reason = begun.of_dead(self)
            if not notes:
                return False
            self._unfinished = reason
            if not self._acknowledge_copied():
                self._unfinished = ""  # it runs, and its file stays
                return False
            for each in notes:
                begun.forget(each)
            return True

        def on_accepted(self, pid: int, time_accepted: float) -> None:
            self.mark_started()
            super().on_accepted(pid, time_accepted)

        def on_failure(self, exc_info: Any, *arguments: Any, **options: Any) -> Any:
            error = exc_info.exception
            error = error.exc if isinstance(error, ExceptionWithTraceback) else error
            if isinstance(error, MemoryError):
                exc_info.exception = TaskMemoryError(*error.args)
            elif isinstance(error, WorkerLostError | SystemExit):
                self.record_unfinished(error)
            return super().on_failure(exc_info, *arguments, **options)

        def record_unfinished(self, error: BaseException) -> None:
            """Note why this did not end; Celery rejects the message a turn of the event loop later.

            What a cold shutdown ends is no fault of the task.
            """
            if state.should_terminate:
                return
            self._unfinished = str(error) or repr(error)
            if self.recovery is not None:
                self.recovery.holder.unfinished[self.message.delivery_tag] = self._unfinished

        def acknowledge(self) -> None:
            """Acknowledge it; it is not begun any more."""
            super().acknowledge()
            self._forget_note()

        def reject(self, requeue: bool = False) -> None:
            """Requeue it, with a count where the broker does not count."""
            if not (requeue and self._unfinished and self._acknowledge_copied()):
                super().reject(requeue)
            self._forget_note()

        def _acknowledge_copied(self) -> bool:
            """Acknowledge it, if there is a copy of it with a higher count, or it is parked."""
            if self.acknowledged or not self._is_requeued():
                return False
            # Not `acknowledge`: who listens to that (`celeriac.ledger`) takes it for the end.
            self.on_reject = lambda log, errors, requeue: self.on_ack(log, errors)
            super().reject(requeue=True)
            return True

        def _forget_note(self) -> None:
            if self._note is not None:
                begun.forget(self._note)
                self._note = None

        def _is_requeued(self) -> bool:
            times = unfinished.requeue_or_park(worker.consumer, self, self._unfinished)
            if unfinished.is_parked(times):
                _store_failure(worker.app, self.id, internals.context(self), self._unfinished, times)
            return times > 0

    DeliveryRequest.__name__ = "Request"
    return DeliveryRequest


def _with_checks(worker: Any, execute: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(execute)
    def execute_using_pool(request: Any, pool: Any, **options: Any) -> Any:
        if request._is_lost or request.is_counted():
            state.task_ready(request)
            raise TaskRevokedError(request.id)  # the word for "not to be executed"
        if _is_suspect(request):
            if any(each in state.reserved_requests for each in _suspects if each is not request):
                worker.consumer.timer.call_after(ALONE_SECONDS, _try_again, (worker, request))
                raise TaskRevokedError(request.id)
            _suspects.add(request)
        # It may begin at once, and end this process sooner than the pool can say that it began.
        if _may_start(pool):
            request.mark_started()
        return execute(request, pool, **options)

    return execute_using_pool


def _is_suspect(request: Any) -> bool:
    """Return whether a message did not end so often that it runs alone.

    Beside the culprit another one may have begun each time that it ended the worker.
    """
    if request.recovery is None:
        return unfinished.times_of(request.message) >= SUSPECT
    return int(request.message.properties.get(UNFINISHED, 0)) >= SUSPECT


def _try_again(worker: Any, request: Any) -> None:
    """Start a message that had to wait, if it is still this process's."""
    if request.recovery is None:
        is_ours = unfinished.is_ours(worker.consumer, request.message)
    else:
        is_ours = request.message.delivery_tag in request.recovery.holder.taken
    if is_ours and not request.acknowledged and state.should_stop is None:
        worker.consumer.on_task_request(request)


def _may_start(pool: Any) -> bool:
    """Return whether a process of the pool takes up a task at once; a thread says itself that it begins."""
    processes = internals.processes_of(pool)
    if processes is None:
        return False
    return internals.idle(processes) > len(processes.outbound_buffer)


def _drop(worker: Any, tags: set[str]) -> None:
    """Drop what has not begun of what is another's."""
    processes = internals.processes_of(worker.pool)
    dropped = 0
    for tag in tags:
        request = _requests.get(tag)
        if request is None or request in state.active_requests:
            continue
        job = internals.job_of(request)
        if job is not None:
            if processes is None or job not in processes.outbound_buffer:
                continue  # a process of the pool has it already
            internals.cancel_unwritten(processes, [job])
            internals.release_slot(worker)
            state.task_ready(request)
        request._is_lost = request.acknowledged = True
        channel = request.message.channel
        channel.holder.taken.pop(tag, None)
        internals.forget_at_once(channel.qos, tag)
        dropped += 1
    if dropped:
        _log.warning("%d task(s), not begun when the lease was lost, are dropped here", dropped)


def _fail(app: Celery, message: dict[str, Any], reason: str, times: int) -> None:
    """Store that a task has failed: it is parked."""
    headers = message.get("headers", {})
    task_id = headers.get("id")
    if not task_id:
        return
    embed: dict[str, Any] = {}
    args: Any = None
    kwargs: Any = None
    try:
        body = base64.b64decode(message["body"])
        args, kwargs, embed = serialization.loads(
            body,
            message["content-type"],
            message["content-encoding"],
            accept=serialization.prepare_accept_content(app.conf.accept_content),
        )
    except Exception:
        _log.warning("the arguments of [%s], which is parked, cannot be read", task_id)
    request = Context(headers, args=args, kwargs=kwargs, **(embed or {}))
    _store_failure(app, task_id, request, reason, times)


def _store_failure(app: Celery, task_id: str, request: Any, reason: str, times: int) -> None:
    error = WorkerLostError(f"{reason}; not ended {times} times, parked")
    try:
        if app.backend.get_task_meta(task_id, cache=False)["status"] == SUCCESS:
            return  # it did end once, and the worker before it could acknowledge that
        app.backend.mark_as_failure(task_id, error, request=request, store_result=True)
    except Exception:
        _log.exception("that task [%s] has failed could not be stored", task_id)
