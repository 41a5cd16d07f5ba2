r"""The ``django-db`` result backend that survives a restart of the database, and stores any error.

The stock backend tries again only after an ``InterfaceError``. When PostgreSQL restarts, the
connection that a pool process kept fails with an ``OperationalError``: a task that succeeded is
recorded as FAILURE, or stays STARTED for ever. This one closes the connections, so that Django
opens new ones, and lets Celery try again.

PostgreSQL's text has no NUL, and nothing encodes a lone surrogate: an error with one of these in
its words was stored as that of the database, without its traceback. Here they are written as Python
would, ``\x00`` and ``\udce9``.

A task of a chord's header that ran twice was counted twice: the counter came to its end and was
deleted while another one still ran, and the body was never sent. Here it is looked at then which
have not ended, and these are waited for. The body is sent before the counter goes, in one
transaction: who dies in between has its task run again, and with it sends the body again.

Results are as old as ``result_expires`` at most, and ``CELERIAC_RESULTS_ROWS`` in number (0 or
missing: as many as there are); of more than that the oldest go that have ended. They are deleted by
``celery.backend_cleanup`` and by each worker (`celeriac.pruning`), but not those that a chord under
way will hand to its body.

It can be named in settings, ``CELERY_RESULT_BACKEND = "celeriac.results:DatabaseBackend"``, but
need not: `celeriac.configure` puts it in the place of ``django-db``. It tries again only where
``result_backend_always_retry`` is on.
"""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from celery import maybe_signature
from celery.states import READY_STATES
from django.db import connections, router, transaction
from django.db.models import F
from django.db.utils import InterfaceError, OperationalError
from django.utils import timezone
from django_celery_results.backends.database import DatabaseBackend as StockBackend
from django_celery_results.backends.database import trigger_callback
from django_celery_results.models import ChordCounter

from celeriac import pruning


class DatabaseBackend(StockBackend):
    """The backend of django-celery-results, which also tries again after a lost connection."""

    def _store_result(
        self, task_id: str, result: Any, status: str, traceback: Any = None, *args: Any, **more: Any
    ) -> Any:
        """Store a state; what else is in the row is JSON, in which there is ASCII only."""
        return super()._store_result(task_id, result, status, storable(traceback), *args, **more)

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Return whether an operation that failed may be tried again, and make that possible.

        Args:
            exc: what the operation raised.

        Returns:
            True for what a lost connection raises. False inside a transaction: it is lost with
            its connection, and to go on without it would store half of the caller's work.
        """
        if not isinstance(exc, InterfaceError | OperationalError):
            return False
        opened = connections.all(initialized_only=True)
        if any(connection.in_atomic_block for connection in opened):
            return False
        for connection in opened:
            connection.close()
        return True

    def cleanup(self) -> None:
        """Delete what is too old or too many, of which some may be left to the next call."""
        for model, key in ((self.TaskModel, "task_id"), (self.GroupModel, "group_id")):
            results = model._default_manager.order_by("date_done", "pk")
            if self.expires:
                before = timezone.now() - timedelta(seconds=self.expires)
                pruning.delete(results.filter(date_done__lt=before), key, _in_chords)
            if rows := pruning.limit("CELERIAC_RESULTS_ROWS"):
                ended = results.filter(status__in=READY_STATES) if key == "task_id" else results
                # By that alone: PostgreSQL counts in its index.
                newest = results.order_by("-date_done").values_list("date_done", flat=True)
                for last_kept in newest[rows - 1 : rows]:
                    pruning.delete(ended.filter(date_done__lt=last_kept), key, _in_chords)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **_: Any) -> None:
        """Count an end of a task in a chord's header; after the last one, send the body.

        Args:
            request: of the task that has ended; its result is stored already.
            state: in which it ended.
            result: what it returned or raised.
        """
        if not (request.id and request.group):
            return
        with transaction.atomic(using=router.db_for_write(ChordCounter)):
            counters = ChordCounter.objects.filter(group_id=request.group)
            # Written before it is read: SQLite refuses at once who has read and wants to write
            # while another one does.
            if not counters.update(count=F("count") - 1):
                return  # the body was sent
            counter = counters.get()
            if counter.count <= 0:
                header = counter.group_result(app=self.app)
                counter.count = sum(not each.ready() for each in header.results)
                if not counter.count:
                    body = maybe_signature(request.chord, app=self.app)
                    trigger_callback(app=self.app, callback=body, group_result=header)
                    counter.delete()
                else:
                    counter.save(update_fields=["count"])


def _in_chords() -> set[str]:
    """Return the ids of whatever the headers of the chords under way are made of, and their own."""
    found = set()
    for group_id, header in ChordCounter.objects.values_list("group_id", "sub_tasks"):
        found |= {group_id, *_texts(json.loads(header))}
    return found


def _texts(nested: object) -> Iterator[str]:
    """Return each text in lists in lists: results as tuples are ids and nothing else."""
    if isinstance(nested, str):
        yield nested
    elif isinstance(nested, list):
        for each in nested:
            yield from _texts(each)


def storable(text: Any) -> Any:
    """Return a text as UTF-8 and PostgreSQL can have it: readable, with escapes for what they lack.

    Args:
        text: a str; anything else is returned as it is.

    Source: https://www.postgresql.org/docs/current/datatype-character.html (no NUL)
    """
    if not isinstance(text, str):
        return text
    return text.replace("\0", r"\x00").encode(errors="backslashreplace").decode()
