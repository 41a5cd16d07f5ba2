"""What was sent, noted at the moment it is sent: `Dispatch`.

Celery keeps no list of what was sent, and django-celery-results stores arguments as a repr that is cut at a length.
Here are the true ones, as the message has them, so that a task can be run again with the same.

The row is part of the caller's transaction, if there is one: what is rolled back was not sent (enqueue with
`delay_on_commit`, then nothing is sent either).
"""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from celery.signals import before_task_publish
from django.conf import settings
from django.db import connection, transaction
from django.db.utils import InterfaceError, OperationalError
from django.utils import timezone
from kombu.utils import json

from app.catalogue import is_ours, keeps_arguments
from app.models import Dispatch, Revocation

logger = logging.getLogger(__name__)

# Headers of a message, beside Celery's own: the user who started it, and the id of the run that it repeats.
SENT_BY = "sent_by"
PARENT = "rerun_of"

HIDDEN = "(not kept)"
BATCH = 1000


@before_task_publish.connect
def note(
    sender: str,
    headers: dict[str, Any],
    body: tuple[Any, ...],
    properties: Mapping[str, Any],
    **_: Any,
) -> None:
    """Write down a task that is about to be sent. Failing at that is logged, and does not keep it from being sent.

    Where the arguments of a task are not to be kept, what the message says about them is taken out, too: the results,
    events and logs of the worker are made from that.

    Source: https://docs.celeryq.dev/en/stable/userguide/signals.html#before-task-publish
    """
    if not is_ours(sender):
        return
    task = current_app.tasks.get(sender)
    # Of a task that is not registered here nobody knows whether its arguments may be kept.
    keep = task is not None and keeps_arguments(task)
    if task is not None and not keep:
        headers.update(argsrepr=HIDDEN, kwargsrepr=HIDDEN)
    if headers.get("retries"):
        return  # the same run again: it has its row
    try:
        args, kwargs = body[:2]
        _write(
            Dispatch(
                task_id=headers["id"],
                name=sender,
                args=json.dumps(args) if keep else None,
                kwargs=json.dumps(kwargs) if keep else None,
                priority=properties.get("priority"),
                eta=datetime.fromisoformat(headers["eta"]) if headers.get("eta") else None,
                parent=headers.get(PARENT) or "",
                sent_by=headers.get(SENT_BY) or "",
            )
        )
    except Exception:
        logger.exception("Task %s[%s] is sent, but not noted", sender, headers.get("id"))


def forget(task_id: str) -> None:
    """Take back the note of a task that could not be sent after all."""
    try:
        Dispatch.objects.filter(task_id=task_id).delete()
    except Exception:
        logger.exception("Task [%s] was not sent, but is noted", task_id)


def prune(now: datetime | None = None) -> int:
    """Delete what is older than `RUNS_EXPIRE` or more than `RUNS_MAX`, in batches that hold no lock for long.

    Args:
        now: the time, for tests.

    Returns:
        How many tasks were forgotten.
    """
    before = (now or timezone.now()) - timedelta(seconds=settings.RUNS_EXPIRE)
    too_many = Dispatch.objects.values_list("pk", flat=True)[settings.RUNS_MAX : settings.RUNS_MAX + 1]
    forgotten = _delete(Dispatch.objects.filter(sent_at__lt=before))
    for newest in [*too_many]:
        forgotten += _delete(Dispatch.objects.filter(pk__lte=newest))
    _delete(Revocation.objects.filter(revoked_at__lt=before))
    return forgotten


def _write(row: Dispatch) -> None:
    """Insert a row, once more over a new connection where the old one is dead; one that is there already stays."""
    try:
        _insert(row)
    except (InterfaceError, OperationalError):
        # Web and worker look after their connections before each request and task; beat and a shell do not.
        if connection.in_atomic_block:
            raise
        connection.close()
        _insert(row)


def _insert(row: Dispatch) -> None:
    # A savepoint, inside the caller's transaction: a failure here must not spoil what the caller does next.
    with transaction.atomic():
        Dispatch.objects.bulk_create([row], ignore_conflicts=True)


def _delete(rows: Any) -> int:
    deleted = 0
    while keys := [*rows.order_by("pk").values_list("pk", flat=True)[:BATCH]]:
        deleted += rows.model.objects.filter(pk__in=keys).delete()[0]
    return deleted
