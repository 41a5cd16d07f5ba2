"""Looks for tasks that are nowhere any more, and sends them again: same id, same attempt.

Any number of sweeps may go on at once: a look is had by one of them, and before a task is sent its
row is changed, on the condition that nobody else did. A sweep that is killed between the two leaves
the task to a later one, after another bound.

A long queue is not read for a look as long as nothing speaks for it: what was put into a queue
after the message that comes next is behind that. Only what is older is looked for everywhere.
"""

import logging
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from celery import Celery
from celery.worker import state
from django.db import router, transaction
from django.db.models import F, Min, Q, QuerySet
from django.utils import timezone
from kombu import Connection, Producer
from kombu.utils import json

from celeriac import forks
from celeriac.ledger import places, retention, settings
from celeriac.ledger.database import private_connection
from celeriac.ledger.models import Counter, Dispatch
from celeriac.ledger.places import Places
from celeriac.ledger.receipts import PATIENCE_SECONDS, read
from celeriac.ledger.requests import RESENT
from celeriac.ledger.rule import Noted, Receipt, Seen, Verdict, verdict

BATCH = 500
# So many rows are judged in one look.
JUDGED = 20_000
# Of two looks one may be a little early.
EARLY = 0.8

_log = logging.getLogger(__name__)


def work(app: Celery, connection: Connection, stopped: threading.Event) -> None:
    """Have a look, if it is time for one and nobody else has it.

    Args:
        app: whose tasks are meant.
        connection: to its broker; nobody else uses it.
        stopped: when it is set, nothing else is sent.
    """
    with private_connection(Dispatch):
        if not _is_ours():
            return
        if connection.transport.driver_type == "redis":
            Sweep(app, connection, stopped).look()
        retention.prune()


class Sweep:
    """One look at Redis.

    Args:
        app: whose tasks are meant.
        connection: to its broker; nobody else uses it.
        stopped: when it is set, nothing else is sent.
    """

    def __init__(
        self, app: Celery, connection: Connection, stopped: threading.Event | None = None
    ) -> None:
        self._app = app
        self._places = Places(connection.default_channel)
        self._producer = Producer(connection.default_channel, auto_declare=False)
        self._stopped = stopped or threading.Event()

    def look(self) -> list[str]:
        """Look once; return the ids of the tasks that were sent again."""
        now = timezone.now()
        look = timedelta(seconds=settings.look_seconds() * EARLY)
        rows = {row.task_id: row for row in self._candidates(now - look)}
        present: set[places.Attempt] = set()
        if rows:
            present = self._places.present({row.queue for row in rows.values()})
        # After the places, so that what was acknowledged meanwhile has its receipt.
        receipts = self._read_receipts(rows)
        # Before the verdicts, so that what was revoked meanwhile is known.
        missing = {row.task_id for row in rows.values() if _attempt(row) not in present}
        revoked = _revoked(missing)
        found: dict[Verdict, list[Dispatch]] = {each: [] for each in Verdict}
        for row in rows.values():
            task_id = row.task_id
            seen = Seen(task_id not in missing, receipts.get(task_id), task_id in revoked)
            found[verdict(_noted(row), seen, now, settings.bound(), look)].append(row)
        return self._do(found, now)

    def _candidates(self, before: datetime) -> Iterator[Dispatch]:
        """Yield the rows of tasks that might be lost, and those that were missed before."""
        waiting = Dispatch.objects.filter(
            Q(eta=None) | Q(eta__lt=before),
            Q(started_at=None) | Q(overdue_at__lt=before),
            queued_at__lt=before,
            ended_at=None,
            acked=False,
        ).exclude(queue="")
        left = JUDGED
        groups = waiting.order_by().values_list("queue", "priority").distinct()
        for queue, priority in [*groups]:
            rows = waiting.filter(queue=queue, priority=priority)
            older = self._older_than_the_next(rows, self._places.list_of(queue, priority))
            if self._places.length(self._places.lists_of(queue)) > places.LONGEST:
                _log.warning("queue %s is too long to look for what is lost from it", queue)
                continue
            fields = ("args", "kwargs", "message")
            older = older.annotate(hidden=Q(message=None)).defer(*fields).order_by("queued_at")
            for row in older[:left].iterator(BATCH):
                forks.rest()
                left -= 1
                yield row

    def _older_than_the_next(self, rows: QuerySet[Dispatch], name: str) -> QuerySet[Dispatch]:
        head = self._places.head(name)
        if not head:
            return rows
        oldest = Dispatch.objects.filter(task_id__in=head).aggregate(at=Min("queued_at"))["at"]
        return rows if oldest is None else rows.filter(Q(queued_at__lt=oldest) | ~Q(missed_at=None))

    def _read_receipts(self, rows: dict[str, Dispatch]) -> dict[str, Receipt]:
        """Close what has a receipt, throw that away, and return those of the rows given."""
        ours: dict[str, Receipt] = {}
        receipts = self._places.receipts()
        while batch := [*islice(receipts, BATCH)]:
            forks.rest()
            done = []
            latest: dict[str, tuple[int, Receipt]] = {}
            for member, _ in batch:
                task_id, retries, kind = read(member)
                latest[task_id] = max(
                    latest.get(task_id, (-1, kind)), (retries, kind), key=lambda each: each[0]
                )
            known = dict(
                Dispatch.objects.filter(task_id__in=[*latest]).values_list("task_id", "retries")
            )
            of_kind: dict[Receipt, list[str]] = {kind: [] for kind in Receipt}
            for task_id, (retries, kind) in latest.items():
                if task_id in known and retries >= known[task_id]:
                    of_kind[kind].append(task_id)
                    if task_id in rows:
                        ours[task_id] = kind
            _close(of_kind[Receipt.ENDED], known)
            _taken(of_kind[Receipt.STARTED], known)
            before = timezone.now().timestamp() - PATIENCE_SECONDS
            for member, at in batch:
                if read(member)[0] in known or at < before:
                    done.append(member)
            self._places.throw_away(done)
        return ours

    def _do(self, found: dict[Verdict, list[Dispatch]], now: datetime) -> list[str]:
        # What has a receipt is closed by now; these are revoked or expired.
        _close([row.task_id for row in found[Verdict.CLOSE]], _retries(found[Verdict.CLOSE]))
        for kind, moment in ((Verdict.MISSING, now), (Verdict.FOUND, None)):
            for batch in _batches(found[kind]):
                Dispatch.objects.filter(pk__in=[row.pk for row in batch]).update(missed_at=moment)
        lost = [row for row in found[Verdict.LOST] if _claim(row, lost=True, ended_at=now)]
        for row in lost:
            _log.error("Task %s is lost: its arguments are not kept, it cannot be sent again", row)
        Counter.add("lost", len(lost))
        sent = []
        for row in found[Verdict.SEND]:
            forks.rest()
            if self._stopped.is_set():
                break
            resent = row.resent + 1
            if _claim_to_send(row, resent):
                self._send(row, resent)
                sent.append(row.task_id)
                _log.warning("Task %s was nowhere any more: sent again", row)
        return sent

    def _send(self, row: Dispatch, resent: int) -> None:
        """Send a task as it was sent, with a header that says that it is not the first time."""
        row.refresh_from_db(fields=["args", "kwargs", "message"])
        message = json.loads(row.message)
        queue = self._app.amqp.queues.get(row.queue)
        properties = message["properties"]
        self._producer.publish(
            # Put together from what was kept: JSON, and not read in between.
            f"[{row.args}, {row.kwargs}, {json.dumps(message['embed'])}]",
            exchange=message["exchange"],
            routing_key=message["routing_key"],
            declare=[] if queue is None else [queue],
            content_type="application/json",
            content_encoding="utf-8",
            headers={**message["headers"], RESENT: resent},
            **properties,
        )


def _is_ours() -> bool:
    """Return whether it is time for a look, and this process is to have it."""
    now = timezone.now()
    seconds = settings.look_seconds() * EARLY
    Counter.objects.get_or_create(name="looks", defaults={"changed_at": now - timedelta(days=1)})
    free = Counter.objects.filter(name="looks", changed_at__lt=now - timedelta(seconds=seconds))
    return bool(free.update(value=F("value") + 1, changed_at=now))


def _claim(row: Dispatch, **changes: object) -> bool:
    """Change a row if it is still as it was read; return whether that was so."""
    unchanged = Dispatch.objects.filter(
        pk=row.pk, retries=row.retries, resent=row.resent, starts=row.starts,
        ended_at=None, acked=False,
    )  # fmt: skip
    return bool(unchanged.update(**changes))


def _claim_to_send(row: Dispatch, resent: int) -> bool:
    """Claim a row and count it: both, or neither where this process is killed in between."""
    with transaction.atomic(using=router.db_for_write(Dispatch)):
        claimed = _claim(row, resent=resent, queued_at=timezone.now(), missed_at=None)
        if claimed:
            Counter.add("sent_again", 1)
        return claimed


def _close(task_ids: list[str], retries: dict[str, int]) -> None:
    """Note that tasks are over, each in the attempt given."""
    _change(task_ids, retries, {"ended_at": None}, {"ended_at": timezone.now()})


def _taken(task_ids: list[str], retries: dict[str, int]) -> None:
    """Note that tasks were acknowledged when they started, each in the attempt given."""
    _change(task_ids, retries, {"acked": False}, {"acked": True})


def _change(
    task_ids: list[str], retries: dict[str, int], before: dict[str, Any], after: dict[str, Any]
) -> None:
    for attempt in {retries[task_id] for task_id in task_ids}:
        alike = sorted(each for each in task_ids if retries[each] == attempt)
        for batch in _batches(alike):
            rows = Dispatch.objects.filter(task_id__in=batch, retries=attempt, **before)
            rows.update(**after)


def _retries(rows: Iterable[Dispatch]) -> dict[str, int]:
    return {row.task_id: row.retries for row in rows}


def _revoked(task_ids: set[str]) -> set[str]:
    """Return those that were revoked, as far as this worker or the project knows."""
    if not task_ids:
        return set()
    of_worker = {task_id for task_id in task_ids if task_id in state.revoked}
    return of_worker | settings.revoked_of_project()(task_ids)


def _attempt(row: Dispatch) -> places.Attempt:
    return row.task_id, row.retries


def _noted(row: Dispatch) -> Noted:
    return Noted(
        queued_at=row.queued_at,
        eta=row.eta,
        expires=row.expires,
        missed_at=row.missed_at,
        started_at=row.started_at,
        overdue_at=row.overdue_at,
        acked=row.acked,
        ended=row.ended_at is not None,
        sendable=not row.hidden,
    )


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), BATCH):
        forks.rest()
        yield items[start : start + BATCH]
