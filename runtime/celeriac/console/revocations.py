"""Revocations that outlive workers: kept in the database, and known to a worker before it takes a task.

Celery tells the workers that run, and they remember: what nobody hears, or a worker forgets because it is killed, is
lost. Here a worker that starts reads all of them, and those that run are told as well.

What a worker then does with such a task is Celery's own: it is not started, its message is acknowledged and its
state becomes REVOKED. The same holds for one that comes back to the queue because its worker was killed.
"""

import logging
import time
from datetime import datetime
from enum import Enum
from typing import Any

from celery import current_app, signals
from celery.app.task import Context
from celery.exceptions import OperationalError
from django.db.utils import InterfaceError
from django.db.utils import OperationalError as DatabaseOperationalError
from django.utils import timezone
from kombu import Connection

from celeriac import pruning
from celeriac.broker import inspector
from celeriac.extension import ConsumerExtension, WorkerExtension, install
from celeriac.ledger import settings as ledger

logger = logging.getLogger(__name__)

# How long the workers may take to say whether they have the task. They answer in milliseconds; nobody else does.
ANSWER_SECONDS = 1.0
# How long a worker that starts waits for the database: as long as a restart of it takes.
DATABASE_SECONDS = 30.0


class Whereabouts(Enum):
    """What the workers say of a task."""

    RUNS = "a process works on it"
    HELD = "a worker has it and has not started it"
    NOT_HERE = "no worker that answers has it"


def connect() -> None:
    """Have each worker that begins in this process read what was revoked."""
    signals.celeryd_init.connect(_install, dispatch_uid="celeriac.console")


def _install(instance: Any, **_: Any) -> None:
    """Add the steps before Celery puts the worker together (celery/worker/worker.py, 5.7)."""
    install(instance.app, (BeforeTheFirstTask, AfterAGap))


class BeforeTheFirstTask(WorkerExtension):
    """Reads the revocations while the worker starts.

    Celery starts the consumer after all other steps of a worker. While the database is away, the worker waits, and in
    the end gives up instead of starting what was revoked; whoever looks after it starts it again.
    """

    def start(self, worker: Any) -> None:
        """Read them."""
        from celery.worker.state import maybe_shutdown

        deadline = time.monotonic() + DATABASE_SECONDS
        while True:
            maybe_shutdown()  # a signal while it waits
            try:
                _load()
            except (DatabaseOperationalError, InterfaceError) as error:
                if time.monotonic() > deadline:
                    raise
                logger.warning("The database is unavailable, and with it what was revoked: %s", error)
                time.sleep(1)
            else:
                return


class AfterAGap(ConsumerExtension):
    """Reads them again with each new connection to the broker: without one, nobody could tell this worker."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def start(self, consumer: Any) -> None:
        """Read them, if this is not the first connection; that must not end the worker."""
        if consumer.restart_count > 0:
            try:
                _load()
            except Exception:
                logger.exception("What was revoked in the meantime is not known")


def prune(now: datetime | None = None) -> int:
    """Delete revocations of tasks that the journal does not know any more; return how many.

    Args:
        now: the time, for tests.
    """
    from celeriac.console.models import Revocation

    before = (now or timezone.now()) - ledger.keep()
    return pruning.delete(Revocation.objects.filter(revoked_at__lt=before).order_by("revoked_at"))


def revoke_in_workers(run_id: str, *, terminate: bool) -> Whereabouts:
    """Tell the workers, and ask them where the task is, or was before a terminate.

    On RabbitMQ it takes a second; Redis knows how many workers there are to answer.

    Raises:
        OperationalError: the broker is away.
    """
    with current_app.connection_for_write() as broker:
        try:
            broker.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            if terminate:
                found = _ask(broker, run_id)  # afterwards nobody has it any more
                current_app.control.revoke(run_id, terminate=True, signal="SIGTERM", connection=broker)
            else:
                current_app.control.revoke(run_id, connection=broker)
                found = _ask(broker, run_id)  # a worker does what it is told in that order, so now it knows
        except (*broker.connection_errors, *broker.channel_errors) as error:
            raise OperationalError(str(error)) from error
    if "active" in found:
        return Whereabouts.RUNS
    return Whereabouts.HELD if found else Whereabouts.NOT_HERE


def mark_revoked(run_id: str, name: str) -> None:
    """Store the state REVOKED of a task that no worker has started.

    A worker does the same when it comes to the task; there may be none for a long time.
    """
    current_app.backend.mark_as_revoked(run_id, "revoked", request=Context(id=run_id, task=name, children=[]))


def _ask(broker: Connection, run_id: str) -> list[str]:
    """Return what each worker that has the task calls its state: active, reserved, scheduled or ready."""
    inspect = inspector(current_app, broker, ANSWER_SECONDS)
    if inspect is None:
        return []
    replies = inspect.query_task(run_id) or {}
    return [found[run_id][0] for found in replies.values() if run_id in found]


def _load() -> None:
    # Not above: a worker imports this module before there are models, and a web process has no worker's state.
    from celery.worker import state
    from django.db import connections

    from celeriac.console.models import Revocation

    since = timezone.now() - ledger.keep()
    revoked = Revocation.objects.filter(revoked_at__gte=since).order_by("revoked_at")
    try:
        ids = [*revoked.values_list("task_id", flat=True)]
    finally:
        # The processes of the pool are made from this one, and must not share its connection.
        connections.close_all()
    # Celery's own three hours are less than a task can wait.
    state.revoked.expires = ledger.keep().total_seconds()
    state.revoked.update(ids)
    if ids:
        logger.info("%d revoked task(s) will not be started", len(ids))
