"""Records a task in the moment before the broker gets it.

The row is part of the caller's transaction, if there is one; with ``delay_on_commit`` that is over
by then, and the row is written by itself, in one round trip. A row that cannot be written keeps
nothing from being sent, nor for long (`celeriac.ledger.bounded`). What could not be sent after all
is forgotten, for the caller knows; a retry that could not be is over, and is kept.
"""

import logging
import threading
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from celery import Task, current_app
from celery.signals import before_task_publish
from django.db import connections, router
from django.db.utils import InterfaceError, OperationalError
from django.utils import timezone
from kombu.utils import json

from celeriac import clock, ids
from celeriac.internals import Sender, wrap_sender
from celeriac.ledger import bounded
from celeriac.ledger.models import NOT_NOTED, Counter, Dispatch

# Headers of a message, beside Celery's own. The first says which publication of its task id it is,
# and so whose the marks of a worker are; the sender may give the others: a user's name, the id of
# the task that this one repeats, and the entry of the schedule that it is sent for.
PUBLICATION = "celeriac-ledger"
SENT_BY = "sent_by"
RERUN_OF = "rerun_of"
ENTRY = "periodic_task_name"  # django-celery-beat's

# In the place of arguments that are not kept, wherever Celery shows them.
HIDDEN = "(not kept)"

_log = logging.getLogger(__name__)

_lock = threading.Lock()
_uncounted = 0  # publications of this process without a row, not counted in the database yet
_imported = False


def connect() -> None:
    """Have every task recorded that this process sends."""
    before_task_publish.connect(_record, dispatch_uid="celeriac.ledger")
    ids.refuse_longer_than(Dispatch._meta.get_field("task_id").max_length or 0)
    wrap_sender(_forgetting)


def forget(task_id: str, publication: str, *, kept: bool) -> None:
    """Take back the row of a task that could not be sent.

    Args:
        task_id: of the task.
        publication: which of those under this id.
        kept: the row stays, as that of a task that is over.
    """
    rows = Dispatch.objects.filter(task_id=task_id, publication=publication, starts=0)
    work = partial(rows.update, ended_at=timezone.now()) if kept else rows.delete
    try:
        bounded.write(_alias(), work)
    except Exception:
        _log.exception("Task [%s] was not sent, but is in the journal", task_id)


def _record(
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
    headers.pop(PUBLICATION, None)  # a retry has what the attempt before it had
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
            publication=uuid4().hex,
            retries=headers.get("retries") or 0,
            name=sender,
            queue=_queue(exchange, routing_key, declare),
            priority=properties.get("priority"),
            eta=_moment(headers.get("eta")),
            expires=_moment(headers.get("expires")),
            parent=headers.get(RERUN_OF) or "",
            sent_by=headers.get(SENT_BY) or "",
            entry=headers.get(ENTRY) or "",
        )
        if keep:
            args, kwargs, _embed = body
            row.args, row.kwargs = json.dumps(args), json.dumps(kwargs)
        # Also where the row is not written in time: it may come late, and its marks after it.
        headers[PUBLICATION] = row.publication
        bounded.write(_alias(), partial(_write, row))
    except Exception as error:
        said = f"Task {sender}[{headers['id']}] is sent, but not in the journal: {error!r}"
        _log.warning(said, exc_info=not isinstance(error, bounded.UnavailableError))
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
    return clock.stored(clock.aware(datetime.fromisoformat(text)))


def _alias() -> str:
    return str(router.db_for_write(Dispatch))


def _write(row: Dispatch) -> None:
    """Write a row, once more over a new connection where the old one is dead."""
    connection: Any = connections[_alias()]
    try:
        _upsert(connection, row)
    except (InterfaceError, OperationalError):
        # Web and worker look after their connections before each request and task; beat and a shell
        # do not.
        if bounded.is_in_transaction(connection) or connection.is_usable():
            raise
        connection.close()
        _upsert(connection, row)


# For this one transaction the server does not wait for its disk. What it forgets, if it crashes in
# the next half second, is a row.
# https://www.postgresql.org/docs/current/wal-async-commit.html
_UNAWAITED = " RETURNING set_config('synchronous_commit', 'off', true)"
# In a transaction of the caller's, whose own bound holds again afterwards.
_BOUND = "SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true)"
_UNBOUND = " RETURNING set_config('lock_timeout', %s, true)"


def _upsert(connection: Any, row: Dispatch) -> None:
    # Not through the ORM, which makes three round trips of it.
    fields = [field for field in Dispatch._meta.concrete_fields if not field.primary_key]
    columns = ", ".join(str(field.column) for field in fields)
    places = ", ".join("%s" for _ in fields)
    takes_over = ", ".join(f"{field.column} = excluded.{field.column}" for field in fields)
    statement = (
        f"INSERT INTO {Dispatch._meta.db_table} ({columns}) VALUES ({places})"
        f" ON CONFLICT (task_id) DO UPDATE SET {takes_over}"
    )
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql" and bounded.is_in_transaction(connection):
            cursor.execute(_BOUND, [f"{bounded.WAIT_SECONDS}s"])
            values.append(cursor.fetchone()[0])
            statement += _UNBOUND
        elif connection.vendor == "postgresql":
            statement += _UNAWAITED
        cursor.execute(statement, values)


def _count(failed: int) -> None:
    """Count a publication without a row, in the database when it is there again."""
    global _uncounted
    with _lock:
        _uncounted += failed
        if failed or not _uncounted:
            return
    connection: Any = connections[_alias()]
    if connection.in_atomic_block or connection.autocommit:
        # After a transaction of the caller's, for in it others would wait for the counter.
        connection.on_commit(_save_count, robust=True)


def _save_count() -> None:
    global _uncounted
    with _lock:
        number, _uncounted = _uncounted, 0
    try:
        bounded.write(_alias(), partial(Counter.add, NOT_NOTED, number))
    except Exception:
        with _lock:
            _uncounted += number


def _forgetting(send: Sender) -> Sender:
    """Return a sender that forgets what it could not send."""

    def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
        try:
            return send(producer, name, message, **options)
        except BaseException:
            headers = message.headers
            if publication := headers.get(PUBLICATION):
                forget(headers["id"], publication, kept=bool(headers.get("retries")))
            raise

    return send_task_message
