"""Workers whose event loop and pool a test turns by hand, and what becomes of the tasks they get.

All else is real: Celery's strategy, requests and tracer, the transport, Redis and the journal. All
is done in one process, in the order in which the test asks for it; no clock decides anything.
"""

import json
import os
import threading
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery import current_app, shared_task
from celery.concurrency.base import BasePool
from celery.exceptions import TaskRevokedError
from celery.worker import state
from kombu import Connection
from redis.exceptions import ResponseError

from celeriac import transport
from celeriac.ledger import requests
from celeriac.ledger.models import Dispatch
from celeriac.ledger.recorder import Recorder
from celeriac.transport import channel as channels
from celeriac.transport import holder as holders
from celeriac.transport import identity, parking
from celeriac.worker.deliveries import Deliveries, _drop

QUEUE = "celery"
OPTIONS = {"lease_seconds": 3600, "deliveries": 2}
STOCK_REQUEST = "celery.worker.request:Request"

# What the next execution does, and the number that a replacement gets.
_outcome: tuple[str, int] = ("succeed", 0)
# What the broker has accepted, and of that what came to its end once, each "number.retries".
_accepted: list[str] = []
_ended: list[str] = []
_workers: "list[Worker]" = []


@shared_task(
    bind=True,
    name="work.history.step",
    acks_late=True,
    reject_on_worker_lost=True,
    ignore_result=True,
    max_retries=None,
)
def step(self: Any, number: int) -> None:
    """Do what the test says."""
    what, other = _outcome
    this = f"{number}.{self.request.retries}"
    try:
        if what == "retry":
            again = self.retry(countdown=0, throw=False)
            _accepted.append(f"{number}.{self.request.retries + 1}")
            raise again
        if what == "replace":
            # It is accepted within; nobody takes it before this test lets somebody.
            _accepted.append(f"{other}.0")
            self.replace(step.si(other))
        if what == "fail":
            raise RuntimeError(number)
    finally:
        _ended.append(this)


class Pool(BasePool):
    """Keeps what a worker hands over, until it is told to run it."""

    def on_apply(
        self,
        target: Any,
        args: Any = None,
        kwargs: Any = None,
        accept_callback: Any = None,
        callback: Any = None,
        error_callback: Any = None,
        **_: Any,
    ) -> None:
        """Say that it began."""
        accept_callback(os.getpid(), time.monotonic())
        self.given = SimpleNamespace(run=lambda: target(*args, **(kwargs or {})), succeed=callback, fail=error_callback)


class Worker:
    """A worker of its own: one holder, one connection, one list of marks for the journal."""

    def __init__(self) -> None:
        holders._holders.clear()  # the one of another worker
        app = current_app._get_current_object()
        self.connection = Connection(app.conf.broker_read_url, transport_options=OPTIONS)
        self.channel: Any = self.connection.channel()
        self.channel.holder._renewal = threading.current_thread()  # no clock renews it
        self.recorder = Recorder(f"worker {len(_workers)}")
        self.pool = Pool(1)
        self.pool.start()
        self.reserved: list[Any] = []
        self.running: list[tuple[Any, Any]] = []
        self.controller = SimpleNamespace(app=app, pool=self.pool, consumer=None, state=state)
        self.controller.consumer = self._consumer()
        for task in app.tasks.values():
            task.Request = STOCK_REQUEST  # not that of another worker
        Deliveries(self.controller).start(self.controller)
        requests.install({step.name: step}, self.recorder)
        self.handle = step.start_strategy(app, self.controller.consumer)

    def _consumer(self) -> Any:
        return SimpleNamespace(
            hostname=self.recorder._worker,
            connection_errors=self.connection.connection_errors,
            event_dispatcher=None,
            timer=SimpleNamespace(call_at=None),
            apply_eta_task=None,
            disable_rate_limits=True,
            task_buckets={},
            on_task_request=self.reserved_one,
            _limit_task=None,
            _limit_post_eta=None,
            pool=self.pool,
            controller=self.controller,
            connection=self.connection,
            task_consumer=SimpleNamespace(channel=self.channel),
        )

    def reserved_one(self, request: Any) -> None:
        """Keep a task until it is to begin."""
        self.reserved.append(request)

    def take(self) -> None:
        """Take a message, if there is one."""
        holder = self.channel.holder
        channels.on_lease_lost[:] = [partial(_drop, self.controller)]
        try:
            message = self.channel.basic_get(QUEUE)
        except ResponseError as error:  # it stood still, and somebody has taken what it had
            assert str(error).startswith("NOLEASE"), error
            holder.invalidate()
            message = self.channel.basic_get(QUEUE)
        if message is not None:
            ack, reject = message.ack_log_error, message.reject_log_error
            self.handle(message, None, ack, reject, [])

    def begin(self, which: int) -> None:
        """Hand a task to the pool, which begins it."""
        if not self.reserved:
            return
        request = self.reserved.pop(which % len(self.reserved))
        try:
            request.execute_using_pool(self.pool)
        except TaskRevokedError:
            return
        self.running.append((request, self.pool.given))

    def end(self, which: int, outcome: str, number: int, fate: str) -> None:
        """Run a task, and let its process or the worker be lost before that is heard of, or not."""
        global _outcome
        if not self.running:
            return
        _, given = self.running.pop(which % len(self.running))
        result = None
        if outcome != "nothing":
            _outcome = outcome, number
            result = given.run()
        if fate == "killed":
            self.kill(seen=bool(which % 2))
        elif fate == "lost" or result is None:
            try:
                raise WorkerLostError("its process was killed")
            except WorkerLostError:
                given.fail(ExceptionInfo())
        else:
            given.succeed(result)

    def give_back(self) -> None:
        """Give back what has not begun, as one that drains."""
        for request in self.reserved:
            request.reject(requeue=True)
        self.reserved.clear()

    def look(self) -> None:
        """Look for workers that are gone."""
        channels.on_lease_lost[:] = [partial(_drop, self.controller)]
        self.channel.ensure_lease()
        self.channel.recovery.scan(by_lease=True)

    def stand_still(self) -> None:
        """Do not renew the lease, and live."""
        self.channel.recovery._client.delete(self.channel.holder.lease)

    def kill(self, *, seen: bool) -> None:
        """Be gone: with it its marks for the journal, and what it did not say.

        Args:
            seen: another worker can see that, and need not wait for the end of the lease.
        """
        holder, client = self.channel.holder, self.channel.recovery._client
        for request in [*self.reserved, *(request for request, _ in self.running)]:
            state.task_ready(request)
        self.channel.do_restore = False
        if seen and client.hexists(holders.HOLDERS, holder.name):
            who = {**json.loads(identity.own()), "start": "1"}
            client.hset(holders.HOLDERS, holder.name, json.dumps(who))
        elif holder.name:
            client.delete(holder.lease)
        self.connection.close()
        _workers[_workers.index(self)] = Worker()


def begin(number: int) -> dict[str, Any]:
    """Begin a history with so many workers."""
    transport.install()
    Dispatch.objects.all().delete()
    for each in _workers:
        each.channel.do_restore = False
        each.connection.close()
    _workers.clear()
    _accepted.clear()
    _ended.clear()
    for _ in range(number):
        _workers.append(Worker())
    return found()


def publish(number: int, task_id: str | None) -> dict[str, Any]:
    """Send a task."""
    step.apply_async((number,), task_id=task_id)
    _accepted.append(f"{number}.0")
    return found()


def do(who: int, what: str, *arguments: Any) -> dict[str, Any]:
    """Let a worker do something.

    Args:
        who: which one.
        what: a method.
        arguments: of that.
    """
    worker = _workers[who % len(_workers)]
    if what == "kill":
        worker.kill(seen=arguments[0])
    elif what == "flush":
        worker.recorder.flush()
    else:
        getattr(worker, what)(*arguments)
    return found(flushed=what == "flush")


def finish() -> dict[str, Any]:
    """Kill all workers, release what is parked, and let one worker do all that there is."""
    for each in [*_workers]:
        each.kill(seen=False)
    last = _workers[0]
    last.take()  # so that it is a holder
    last.look()
    client = last.channel.recovery._client
    for each in [*parking.all_parked(client)]:
        parking.release(client, each.tag)
    for _ in range(len(_accepted) + 1):
        last.take()
    while last.reserved:
        last.begin(0)
        last.end(0, "succeed", 0, "")
    for each in _workers:
        each.recorder.flush()
    return found(flushed=True)


def found(*, flushed: bool = False) -> dict[str, Any]:
    """Return what was accepted, what ended, what Redis has, and what the journal says has ended.

    Args:
        flushed: only then has the journal something else to say.
    """
    client = _workers[0].channel.recovery._client
    with client.pipeline() as asked:
        asked.lrange(QUEUE, 0, -1).hvals("unacked").hvals(parking.PARKED)
        waiting, taken, parked = asked.execute()
    messages = [
        *map(json.loads, waiting),
        *(json.loads(text)[0] for text in taken),
        *(json.loads(json.loads(text)["message"]) for text in parked),
    ]
    rows = Dispatch.objects.exclude(ended_at=None).values_list("args", "retries")
    ended = rows if flushed else []
    return {
        "accepted": [*_accepted],
        "ended": [*_ended],
        "there": [_name(each["headers"]) for each in messages],
        "parked": len(parked),
        "closed": [f"{json.loads(args)[0]}.{retries}" for args, retries in ended],
    }


def _name(headers: dict[str, Any]) -> str:
    number = headers["argsrepr"].strip("(,)")
    return f"{number}.{headers['retries']}"
