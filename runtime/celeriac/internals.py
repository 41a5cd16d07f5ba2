"""The private parts of Celery, kombu and billiard that our processes touch: nobody else does.

With another version of these this is the file to read: `PARTS` names what must be there, and a test
says of each that it is (``tests/test_internals.py``). Beside what the functions here touch it has
what subclasses of ours override, or have from their base: beat's schedulers, the result backend, and
the requests of a worker. `celeriac.transport`, which takes the place of kombu's transport for
Redis, has its own.
"""

import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial, wraps
from queue import Empty
from typing import Any

from amqp.exceptions import MessageNacked
from celery import Celery
from celery.app import base, trace
from celery.app.amqp import AMQP
from celery.app.routes import Router
from celery.app.task import Task
from celery.bin.call import call as call_command
from celery.exceptions import Reject
from celery.worker import state
from celery.worker.request import Request
from kombu.exceptions import OperationalError
from kombu.transport.virtual import QoS

# By "module:Class", or the module where it is none of a class; tried with Celery and kombu 5.4 to 5.7.
PARTS = {
    "billiard.pool:ApplyResult": ("_accepted", "correlation_id", "discard"),
    "billiard.pool:Pool": ("_cache", "_pool"),
    "celery.app.amqp:AMQP": ("_create_task_sender",),
    "celery.app.base:Celery": ("_get_backend",),
    "celery.app.task:Task": ("bind", "retry"),
    "celery.app.trace": ("LOG_SUCCESS",),
    "celery.beat:PersistentScheduler": ("_open_schedule", "_store"),
    "celery.beat:Scheduler": ("_ensure_connected", "_heap", "_when"),
    "celery.bin.call": ("call",),
    "celery.concurrency.asynpool:AsynPool": ("_busy_workers", "outbound_buffer"),
    "celery.concurrency.prefork:TaskPool": ("_pool",),
    "celery.concurrency.thread:TaskPool": ("executor",),
    "celery.utils.collections:ConfigurationView": ("_to_keys",),
    "celery.worker.components:Pool": ("_quick_release",),
    "celery.worker.consumer.consumer:Consumer": (
        "create_task_handler",
        "on_connection_error_after_connected",
        "on_unknown_task",
        "perform_pending_operations",
    ),
    "celery.worker.consumer.mingle:Mingle": ("send_hello",),
    "celery.worker.request:Request": ("_already_revoked", "_apply_result", "_context"),
    "django_celery_beat.schedulers:DatabaseScheduler": ("_dirty", "_initial_read", "_last_timestamp", "_schedule"),
    "django_celery_beat.schedulers:ModelEntry": ("_unpack_fields",),
    "django_celery_results.backends.database:DatabaseBackend": ("_store_result",),
    "kombu.asynchronous.semaphore:LaxBoundedSemaphore": ("_waiting",),
    "kombu.message:Message": ("_state",),
    "kombu.messaging:Consumer": ("_active_tags",),
    "kombu.transport.redis:Channel": ("_brpop_read", "_in_poll"),
    "kombu.transport.redis:QoS": ("restore_by_tag",),
    "kombu.transport.virtual.base:QoS": ("_delivered", "_quick_ack"),
}

Sender = Callable[..., Any]

# What cancels the requests in a cold shutdown: since Celery 5.6, and since 5.5.
CANCELS = ("cancel_active_requests", "cancel_all_unacked_requests")

# Of kombu's Redis transport, before this could be set (5.6).
BRPOP_SECONDS = 1


# The app.


def before_backend(app: Celery, prepare: Callable[[], None]) -> None:
    """Have something done before an app loads its result backend, which it does when it first needs it.

    Args:
        app: the app.
        prepare: is called in each thread that needs the backend.
    """
    load = app._get_backend

    def prepared() -> Any:
        prepare()
        return load()

    app._get_backend = prepared


def serialize_calls(serializer: Callable[[], str]) -> None:
    """Choose in what ``celery call`` writes a message that is sent without ``--serializer``.

    Celery has JSON there, whatever the app has: workers that accept something else alone drop it.

    Args:
        serializer: is asked when the command runs.
    """
    (option,) = (each for each in call_command.params if each.name == "serializer")
    option.default = serializer


def wrap_sender(wrap: Callable[[Sender], Sender]) -> None:
    """Put something around what sends each task, in all apps of this process.

    Celery logs what a handler of `before_task_publish` raises, and sends all the same.

    Args:
        wrap: is given a sender, and returns another one: ``sender(producer, name, message, …)``.
    """
    amqp: Any = AMQP
    create = amqp._create_task_sender
    amqp._create_task_sender = lambda self: wrap(create(self))


def on_bind(attributes: Iterable[str], call: Callable[[Celery, type, set[str]], None]) -> None:
    """Have something called for each task that an app of this process gets from now on.

    Celery fills in what a task does not say itself, and then nobody can tell who has said it.

    Args:
        attributes: of a task.
        call: is given the app, the class of the task, and which of the attributes are its own.
    """
    task: Any = Task
    bind = task.bind.__func__

    def bind_and_call(cls: type, app: Celery) -> Any:
        own = {name for name in attributes if getattr(cls, name, None) is not None}
        bound = bind(cls, app)
        call(app, cls, own)
        return bound

    task.bind = classmethod(bind_and_call)


def is_set(app: Celery, name: str) -> bool:
    """Return whether the project has set something, be it to what it is by default.

    The last of the maps in Celery's settings has the defaults.

    Args:
        app: of the project.
        name: of the setting, in lower case.
    """
    app.conf.get(name)  # lets the settings be read, if they were not yet
    conf: Any = app.conf
    names = conf._to_keys(name)
    return any(each in settings for settings in conf.maps[:-1] for each in names)


def set_over(app: Celery, **settings: Any) -> None:
    """Have settings as they are given, whatever the project says.

    Before Celery 5.7 what a project has under its namespace (``CELERY_…``) outranks what is set without.

    Args:
        app: of the project.
        settings: by their names in lower case.
    """
    app.conf.get("broker_url")  # lets the settings be read, if they were not yet
    conf: Any = app.conf
    conf.update({each: value for name, value in settings.items() for each in conf._to_keys(name)})


def soft_shutdown_seconds(conf: Any) -> float:
    """Return what a project's settings say of the soft shutdown; 0 with a Celery that has none (before 5.5)."""
    seconds: float = conf.get("worker_soft_shutdown_timeout", 0)
    return seconds


def delay_for_a_second_at_least() -> None:
    """Let a countdown below one second be one: for a broker that delays tasks itself Celery refuses it (5.7).

    Doing it again changes nothing.
    """
    key_of = getattr(base, "calculate_routing_key", None)  # since Celery 5.5
    if key_of and not hasattr(key_of, "__wrapped__"):

        @wraps(key_of)
        def rounded(countdown: int, routing_key: str) -> str:
            return str(key_of(max(countdown, 1), routing_key))

        base.calculate_routing_key = rounded


def route_to_a_queue() -> None:
    """Let a task whose route names no queue have the one that it would have, or that it came from.

    With a countdown, for a broker that delays tasks itself, Celery takes a queue for granted (5.7). A route that is a
    priority, say, ends with a `KeyError` of ``exchange_type``: of a retry the worker makes a rejected task, and it is
    gone. And a retry says where it came from as an exchange with a key, so that without a route it would wait for the
    default queue instead. Doing it again changes nothing.
    """
    route = Router.route
    if hasattr(route, "__wrapped__"):
        return

    @wraps(route)
    def routed(self: Any, options: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        asked = dict(options)
        found: dict[str, Any] = route(self, options, *args, **kwargs)
        if asked.get("queue") or not asked.get("exchange"):
            default = {} if found.get("queue") or found.get("exchange") else {"queue": self.app.conf.task_default_queue}
            return {**found, **self.expand_destination(default)}
        exchange = getattr(asked["exchange"], "name", asked["exchange"])
        if queue := _queue_behind(self.queues, exchange, asked.get("routing_key") or ""):
            return {**found, "queue": queue, "exchange": queue.exchange, "routing_key": queue.routing_key}
        # Such a one a worker holds until it is due.
        return {"exchange_type": "direct", **{name: value for name, value in found.items() if name != "queue"}}

    Router.route = routed


# What a broker that has delayed a task delivers it by, and how many bits of the delay stand before the key that it had.
_DELAYED = "celery_delayed_delivery"
_DELAY = re.compile(r"^(?:[01]\.){28}")


def _queue_behind(queues: Any, exchange: str, routing_key: str) -> Any:
    """Return the queue of an app that gets what is sent to an exchange with a key; None where none is known."""
    key = _DELAY.sub("", routing_key)
    for queue in queues.values():
        if queue.routing_key == key and exchange in (queue.exchange.name, _DELAYED):
            return queue
    # One that was made because somebody named it has that name on all three.
    return queues[key] if queues.create_missing and exchange in (key, _DELAYED) else None


# A broker that refuses what is sent to it is not asked again and again by the same task.
REFUSED_SECONDS = 1


def keep_failed_retries() -> None:
    """Let a task go on in its queue where its retry could not be sent; Celery rejects it, and it is gone (5.3 to 5.7).

    It is tried again from there, at once. What was acknowledged before it ran, and what no broker would ever take (its
    arguments cannot be serialized, say), is a failure of the task, which somebody sees. Doing it again changes nothing.
    """
    retry = Task.retry
    if hasattr(retry, "__wrapped__"):
        return

    @wraps(retry)
    def kept(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return retry(self, *args, **kwargs)
        except Reject as rejected:
            # What the project rejects itself was not raised where something else was handled.
            unsent = rejected.__context__
            if unsent is None or rejected.reason is not unsent:
                raise
            if self.acks_late and isinstance(unsent, _errors_of_a_broker(self.app)):
                time.sleep(REFUSED_SECONDS)
                raise Reject(repr(unsent), requeue=True) from unsent
            raise unsent from None

    Task.retry = kept


def _errors_of_a_broker(app: Celery) -> tuple[type[BaseException], ...]:
    """Return what may be otherwise the next time: the broker is away, or wants nothing now."""
    with app.connection_for_write() as unopened:
        return (OperationalError, MessageNacked, *unopened.connection_errors, *unopened.channel_errors)


def retry_on_redis() -> None:
    """Let the backend for results on Redis try again what a lost connection ended, as it does since Celery 5.5."""
    from celery.backends.redis import RedisBackend  # which needs redis-py: not every project has it

    if "exception_safe_to_retry" not in vars(RedisBackend):
        RedisBackend.exception_safe_to_retry = lambda self, exc: isinstance(exc, self.connection_errors)


def log_success(text: str) -> None:
    """Have workers say in these words that a task has succeeded; there is no setting for it."""
    trace.LOG_SUCCESS = text


# Messages.


def forget(qos: Any, tag: str) -> None:
    """Let a virtual channel forget a message that is not acknowledged, without asking the server.

    Args:
        qos: of the channel.
        tag: of the message.
    """
    QoS.ack(qos, tag)


def forget_at_once(qos: Any, tag: str) -> None:
    """Do as `forget` does, also where a subclass of its class would say it to the server."""
    qos._quick_ack(tag)


def remember(qos: Any, message: Any) -> None:
    """Let a virtual channel have a message that came over another one."""
    QoS.append(qos, message, message.delivery_tag)


def remembered(qos: Any) -> set[str]:
    """Return the tags of what a virtual channel has given out, and has no acknowledgement of."""
    return {*qos._delivered}


def mark_requeued(message: Any) -> None:
    """Let nobody acknowledge a message any more, or reject it."""
    message._state = "REQUEUED"


def queue_by_tag(consumer: Any, tag: str | None) -> str:
    """Return by which queue a consumer of kombu has a tag; "" if by none, as in a drain."""
    return next((name for name, each in consumer._active_tags.items() if each == tag), "")


def read_answer(channel: Any, grace_seconds: float) -> None:
    """Wait for the answer to a question to Redis that is under way, and take what it brings.

    Args:
        channel: of whichever broker.
        grace_seconds: over what the server promises to answer in.
    """
    connection = getattr(channel, "_in_poll", None)
    promised = getattr(channel, "brpop_timeout", BRPOP_SECONDS)
    if connection and connection.can_read(timeout=promised + grace_seconds):
        with suppress(Empty):
            channel._brpop_read()


# The requests of a worker, and its pool. `processes` is billiard's pool.


def context(request: Any) -> Any:
    """Return what a result backend is told of a request."""
    return request._context


def scheduled(consumer: Any) -> list[tuple[Any, Any]]:
    """Return the requests that wait for their ETA, each with the entry of the timer that waits.

    As ``celery inspect scheduled`` finds them (celery/worker/control.py, 5.4 to 5.7).
    """
    entries = [waiting.entry for waiting in [*consumer.timer.schedule.queue]]
    held = [(entry.args[0], entry) for entry in entries if entry.args and not entry.canceled]
    return [(request, entry) for request, entry in held if isinstance(request, Request)]


def on_cancel(consumer: Any, call: Callable[[], None]) -> None:
    """Have something called before a cold shutdown cancels what runs.

    Args:
        consumer: of a worker. Its method is replaced, or made where Celery has none.
        call: is called in a signal handler.
    """
    name = next((name for name in CANCELS if hasattr(consumer, name)), "")
    cancel = getattr(consumer, name) if name else partial(_cancel, consumer)

    def call_and_cancel() -> None:
        call()
        cancel()

    setattr(consumer, name or CANCELS[0], call_and_cancel)


def cancel_if_celery_does_not(consumer: Any) -> None:
    """Cancel what runs, as the cold shutdown of Celery does since it has the soft one (5.5)."""
    if not any(hasattr(type(consumer), name) for name in CANCELS):
        getattr(consumer, CANCELS[0])()


def _cancel(consumer: Any) -> None:
    """Cancel what runs in processes; there is no way to do that to a thread."""
    for request in [*state.active_requests]:
        if processes_of(consumer.pool) is not None and not request.acknowledged:
            request.cancel(consumer.pool)


def job_of(request: Any) -> Any:
    """Return what the pool has of a request, None for nothing."""
    return request._apply_result and request._apply_result()


def wakes_itself(hub: Any) -> bool:
    """Return whether an event loop wakes up when another thread gives it something to do (kombu 5.7)."""
    return hasattr(hub, "_waker")


def on_call_soon(hub: Any, call: Callable[[], None]) -> None:
    """Have something called whenever an event loop is given something to do.

    Args:
        hub: of a worker. Its method is replaced.
        call: is called in the thread that gives it.
    """
    call_soon = hub.call_soon

    def call_soon_and_tell(*arguments: Any) -> Any:
        given = call_soon(*arguments)
        call()
        return given

    hub.call_soon = call_soon_and_tell


def release_slot(worker: Any) -> None:
    """Release a slot of the pool: a worker with an event loop gives it another request."""
    worker._quick_release()


def clear_waiting(worker: Any) -> None:
    """Drop the requests that wait for a free process of the pool."""
    if getattr(worker, "semaphore", None):
        worker.semaphore._waiting.clear()


def processes_of(pool: Any) -> Any:
    """Return billiard's pool of processes, None where the pool is of another kind."""
    processes = getattr(pool, "_pool", None)
    return processes if hasattr(processes, "outbound_buffer") else None


def idle(processes: Any) -> int:
    """Return how many processes have nothing to do."""
    return len(processes._pool) - len(processes._busy_workers)


def unaccepted(processes: Any) -> set[str]:
    """Return the ids of what was written to a process that has not accepted it yet."""
    return {job.correlation_id for job in processes._cache.values() if not job._accepted}


def accepted(processes: Any) -> dict[int, Any]:
    """Return the jobs that a process has accepted and not ended, by their numbers."""
    return {number: job for number, job in processes._cache.items() if job._accepted and not job.ready()}


def know_again(processes: Any, jobs: dict[int, Any]) -> None:
    """Let the pool hear of the end of jobs that Celery before 5.7 lets it forget with a connection.

    Args:
        processes: billiard's pool.
        jobs: what was accepted then.
    """
    processes._cache.update(jobs)


def cancel_unwritten(processes: Any, jobs: Iterable[Any]) -> None:
    """Cancel jobs that were written to no process yet."""
    for job in [*jobs]:
        processes.outbound_buffer.remove(job)
        job.discard()
