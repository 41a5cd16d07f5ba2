"""Writes a task down in the moment before the broker gets it.

The row is part of the caller's transaction, if there is one; with ``delay_on_commit`` that is over
by then, and the row is written by itself, in one round trip. A row that cannot be written keeps
nothing from being sent. What could not be sent after all is forgotten, for the caller knows; not
so a retry, of which nobody would know but the ledger.
"""

import logging
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from celery import Task, current_app
from celery.app.amqp import AMQP
from celery.signals import before_task_publish
from django.db import connections, router, transaction
from django.db.utils import InterfaceError, OperationalError
from django.utils import timezone
from kombu.utils import json

from celeriac.ledger.models import Counter, Dispatch

# Headers of a message, beside Celery's own. The first says that it is in the ledger; the sender may
# give the others: a user's name, and the id of the task that this one repeats.
NOTED = "celeriac-ledger"
SENT_BY = "sent_by"
RERUN_OF = "rerun_of"

# In the place of arguments that are not kept, wherever Celery shows them.
HIDDEN = "(not kept)"

_log = logging.getLogger(__name__)

_lock = threading.Lock()
_unnoted = 0  # publications of this process without a row, not counted in the database yet
_imported = False


def connect() -> None:
    """Have every task noted that this process sends."""
    before_task_publish.connect(_note, dispatch_uid="celeriac.ledger")
    amqp: Any = AMQP
    amqp._create_task_sender = _forgetting(amqp._create_task_sender)


def forget(task_id: str) -> None:
    """Take back the note of a task that could not be sent."""
    try:
        with transaction.atomic(using=router.db_for_write(Dispatch)):
            Dispatch.objects.filter(task_id=task_id, retries=0, starts=0).delete()
    except Exception:
        _log.exception("Task [%s] was not sent, but is in the ledger", task_id)


def _note(
    sender: str,
    headers: dict[str, Any],
    body: Any,
    properties: Mapping[str, Any],
    exchange: Any,
    routing_key: str,
    declare: Any,
    **_: Any,
) -> None:
    """Write the row of a task that is about to be sent.

    Source: https://docs.celeryq.dev/en/stable/userguide/signals.html#before-task-publish
    """
    headers.pop(NOTED, None)  # a retry has what the attempt before it had
    if "id" not in headers:
        return
    try:
        task = _task(sender)
        if not getattr(task, "ledger", True):
            return
        # Of a task that is not registered here nobody knows whether its arguments may be kept.
        keep = task is not None and getattr(task, "keep_arguments", True)
        if task is not None and not keep:
            headers.update(argsrepr=HIDDEN, kwargsrepr=HIDDEN)
        row = Dispatch(
            task_id=headers["id"],
            retries=headers.get("retries") or 0,
            name=sender,
            queue=_queue(exchange, routing_key, declare),
            priority=properties.get("priority"),
            eta=_moment(headers.get("eta")),
            expires=_moment(headers.get("expires")),
            parent=headers.get(RERUN_OF) or "",
            sent_by=headers.get(SENT_BY) or "",
        )
        headers[NOTED] = True
        if keep:
            args, kwargs, embed = body
            row.args, row.kwargs = json.dumps(args), json.dumps(kwargs)
            row.message = json.dumps(
                {
                    "embed": embed,
                    "headers": headers,
                    "properties": dict(properties),
                    "exchange": str(getattr(exchange, "name", exchange) or ""),
                    "routing_key": routing_key,
                }
            )
        _write(row)
    except Exception:
        headers.pop(NOTED, None)
        _log.exception("Task %s[%s] is sent, but not in the ledger", sender, headers["id"])
        _count(1)
    else:
        _count(0)


def _task(name: str) -> "Task[Any, Any] | None":
    """Return the task of this name. Once, everything is imported that a worker would, to find it.

    A web process has only those modules of tasks that its views have imported.
    """
    global _imported
    if name not in current_app.tasks and not _imported:
        _imported = True
        current_app.loader.import_default_modules()
    found: Task[Any, Any] | None = current_app.tasks.get(name)
    return found


def _queue(exchange: Any, routing_key: str, declare: Any) -> str:
    """Return in which queue the message will be, empty for several, or one that cannot be told."""
    if not exchange:
        return routing_key
    return str(declare[0].name) if declare and len(declare) == 1 else ""


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else timezone.make_aware(moment)


def _write(row: Dispatch) -> None:
    """Write a row, once more over a new connection where the old one is dead."""
    connection = connections[router.db_for_write(Dispatch)]
    try:
        _upsert(connection, row)
    except (InterfaceError, OperationalError):
        # Web and worker look after their connections before each request and task; beat and a shell
        # do not.
        if connection.in_atomic_block:
            raise
        connection.close()
        _upsert(connection, row)


# What belongs to one attempt. A retry, or a new task under the id of one that has ended, begins
# with these as they are by default, or as it brings them.
_OF_AN_ATTEMPT = (
    "retries", "args", "kwargs", "message", "queue", "priority", "eta", "expires",
    "queued_at", "resent", "missed_at", "started_at", "worker", "starts", "overdue_at", "acked",
    "ended_at", "lost",
)  # fmt: skip


# For this one transaction the server does not wait for its disk. What it forgets, if it crashes in
# the next half second, is a row whose task would have to be lost in that moment, too.
# https://www.postgresql.org/docs/current/wal-async-commit.html
_UNAWAITED = " RETURNING set_config('synchronous_commit', 'off', true)"


def _upsert(connection: Any, row: Dispatch) -> None:
    # Not through the ORM, which knows no condition here, and makes three round trips of it.
    fields = [field for field in Dispatch._meta.concrete_fields if not field.primary_key]
    columns = ", ".join(str(field.column) for field in fields)
    places = ", ".join("%s" for _ in fields)
    takes_over = ", ".join(f"{name} = excluded.{name}" for name in _OF_AN_ATTEMPT)
    table = Dispatch._meta.db_table
    statement = (
        f"INSERT INTO {table} ({columns}) VALUES ({places})"
        f" ON CONFLICT (task_id) DO UPDATE SET {takes_over}"
        f" WHERE excluded.retries > {table}.retries OR {table}.ended_at IS NOT NULL"
    )
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]
    if connection.in_atomic_block:
        # A savepoint: a failure here must not spoil what the caller does next.
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute(statement, values)
        return
    if connection.vendor == "postgresql":
        statement += _UNAWAITED
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def _count(failed: int) -> None:
    """Count a publication without a row, in the database when it is there again."""
    global _unnoted
    with _lock:
        _unnoted += failed
        if failed or not _unnoted:
            return
        number, _unnoted = _unnoted, 0
    try:
        with transaction.atomic(using=router.db_for_write(Counter)):
            Counter.add("not_noted", number)
    except Exception:
        with _lock:
            _unnoted += number


def _forgetting(create: Any) -> Any:
    """Return `AMQP._create_task_sender` with senders that forget what they could not send."""

    def create_task_sender(amqp: Any) -> Any:
        send = create(amqp)

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            try:
                return send(producer, name, message, **options)
            except BaseException:
                if message.headers.get(NOTED) and not message.headers.get("retries"):
                    forget(message.headers["id"])
                raise

        return send_task_message

    return create_task_sender
