"""Brings what a worker notes to the database: many at a time, in a thread of its own.

The worker's event loop only puts words on a list. Every quarter of a second they become one UPDATE
for all that started, one for all that ended, and one for what did both. What is on the list when a
worker is killed is lost with it; on Redis the receipts know (`celeriac.ledger.receipts`).

The thread also knows which tasks the sweep has sent again lately, and so which starts may be second
ones. While it does not know, any may be: a worker that was frozen, and goes on with what it had
taken before, is not up to date when it begins.
"""

import logging
import threading
import time
from collections import Counter as Count
from collections import defaultdict, deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from django.db import connections
from django.db.models import F
from django.utils import timezone

from celeriac import forks
from celeriac.ledger import settings
from celeriac.ledger.database import private_connection
from celeriac.ledger.models import Counter, Dispatch

FLUSH_SECONDS = 0.25
BATCH = 500
# Words kept while the database is away: an hour of a slow site, two minutes of a fast one.
KEPT = 100_000
# The event loop waits for an answer for so long, and does not ask again for as long after none.
ASK_SECONDS = 2.0
REFRESH_SECONDS = 1.0
# So old the knowledge of what was sent again may become. The sweep looks twice before it sends.
STALE_SECONDS = 3.0
# Who was frozen for longer than this has lost its connections.
REMEMBERED = timedelta(days=1)

_log = logging.getLogger(__name__)


class Standing(Enum):
    """How far a task had come before it is started."""

    NEW = "not started, as far as is known"
    STARTED = "started, and not ended as far as is known"
    ENDED = "ended, or sent again as a later attempt"


@dataclass
class _Mark:
    """What happened to one attempt since the last flush."""

    started: bool = False
    limit: float | None = None
    acked: bool = False
    ended: bool = False

    @property
    def kind(self) -> tuple[bool, float | None, bool, bool]:
        return self.started, self.limit, self.acked, self.ended


class Ledger(threading.Thread):
    """A worker's way to the ledger. The methods may be called from any thread."""

    def __init__(self, worker: str) -> None:
        """Prepare it.

        Args:
            worker: node name.
        """
        super().__init__(name="celeriac-ledger-marks", daemon=True)
        self._worker = worker
        self._heard: deque[tuple[str, int, _Mark]] = deque(maxlen=KEPT)
        self._counted: Count[str] = Count()
        self._questions: deque[tuple[str, int, Future[Standing]]] = deque()
        self._wake = threading.Event()
        self._stopped = False
        self._resent: dict[str, datetime] = {}
        self._refreshed: float | None = None  # time.monotonic()
        self._silent_until = 0.0  # time.monotonic()

    def started(self, task_id: str, retries: int, limit: float | None, *, acked: bool) -> None:
        """Note a start.

        Args:
            task_id: of the task.
            retries: its attempt.
            limit: after how many seconds it is killed, None for never.
            acked: it was acknowledged with that.
        """
        self._heard.append((task_id, retries, _Mark(started=True, limit=limit, acked=acked)))

    def ended(self, task_id: str, retries: int) -> None:
        """Note an end, however it ended."""
        self._heard.append((task_id, retries, _Mark(ended=True)))

    def count(self, name: str) -> None:
        """Add one to a counter."""
        self._counted[name] += 1

    def is_suspicious(self, task_id: str, *, again: bool) -> bool:
        """Return whether a task that is about to start may have been started before.

        Args:
            task_id: of the task.
            again: its message says that it was given out before.
        """
        known = self._refreshed is not None and time.monotonic() - self._refreshed < STALE_SECONDS
        return again or task_id in self._resent or not known

    def ask(self, task_id: str, retries: int) -> Standing:
        """Return how far a task has come. Without an answer in time it is taken for new."""
        if time.monotonic() < self._silent_until:
            return Standing.NEW
        answer: Future[Standing] = Future()
        self._questions.append((task_id, retries, answer))
        self._wake.set()
        try:
            return answer.result(ASK_SECONDS)
        except Exception as error:
            _log.warning("Whether task [%s] was started before is not known: %r", task_id, error)
            self._silent_until = time.monotonic() + ASK_SECONDS
            return Standing.NEW

    def stop(self, seconds: float) -> None:
        """Write what is left, for so long at most."""
        self._stopped = True
        self._wake.set()
        if self.is_alive():
            self.join(seconds)

    def run(self) -> None:
        """Write, answer and look, until the end."""
        with private_connection(Dispatch):
            while True:
                last = self._stopped
                with forks.turn():
                    try:
                        self._turn()
                    except Exception as error:
                        self._failed(error)
                if last:
                    return
                self._wake.wait(FLUSH_SECONDS)
                self._wake.clear()

    def _turn(self) -> None:
        self._flush()
        if self._refreshed is None or time.monotonic() - self._refreshed > REFRESH_SECONDS:
            self._refresh()
        while self._questions:
            task_id, retries, answer = self._questions.popleft()
            try:
                answer.set_result(_standing(task_id, retries))
            except BaseException as error:
                answer.set_exception(error)
                raise

    def _failed(self, error: Exception) -> None:
        _log.warning("The ledger does not answer; starts and ends are kept: %r", error)
        with suppress(IndexError):
            while True:
                self._questions.popleft()[2].set_exception(error)
        connections.close_all()  # those of this thread

    def _flush(self) -> None:
        while self._heard:
            taken: list[tuple[str, int, _Mark]] = []
            with suppress(IndexError):
                while len(taken) < BATCH:
                    taken.append(self._heard.popleft())
            try:
                self._write(_merged(taken))
            except Exception:
                self._heard.extendleft(reversed(taken))
                raise
        while self._counted:
            name, number = self._counted.popitem()
            try:
                Counter.add(name, number)
            except Exception:
                self._counted[name] += number
                raise

    def _write(self, marks: dict[tuple[str, int], _Mark]) -> None:
        now = timezone.now()
        alike = defaultdict(list)
        for (task_id, retries), mark in marks.items():
            alike[retries, *mark.kind].append(task_id)
        for (retries, started, limit, acked, ended), task_ids in alike.items():
            changes: dict[str, object] = {}
            if started:
                overdue_at = None if limit is None else now + timedelta(seconds=limit) + _GRACE
                changes |= {
                    "starts": F("starts") + 1,
                    "started_at": now,
                    "overdue_at": overdue_at,
                    "worker": self._worker,
                    "acked": acked,
                    "missed_at": None,
                }
            if ended:
                changes["ended_at"] = now
            rows = Dispatch.objects.filter(task_id__in=sorted(task_ids), retries=retries)
            rows.update(**changes)

    def _refresh(self) -> None:
        now = timezone.now()
        newest = max(self._resent.values(), default=now - REMEMBERED)
        began = time.monotonic()
        found = Dispatch.objects.filter(resent__gt=0, queued_at__gte=newest - settings.bound())
        self._resent |= dict(found.values_list("task_id", "queued_at"))
        if any(moment < now - 2 * REMEMBERED for moment in self._resent.values()):
            self._resent = {
                task_id: moment
                for task_id, moment in self._resent.items()
                if moment > now - REMEMBERED
            }
        self._refreshed = began


# Between the time limit of a task and the word of its worker that it ended.
_GRACE = timedelta(seconds=60)


def _merged(heard: list[tuple[str, int, _Mark]]) -> dict[tuple[str, int], _Mark]:
    """Return one mark for each attempt."""
    marks: dict[tuple[str, int], _Mark] = {}
    for task_id, retries, new in heard:
        mark = marks.setdefault((task_id, retries), _Mark())
        if new.started:
            mark.started, mark.limit, mark.acked = True, new.limit, new.acked
        mark.ended = mark.ended or new.ended
    return marks


def _standing(task_id: str, retries: int) -> Standing:
    row = Dispatch.objects.filter(task_id=task_id).first()
    if row is None or row.retries < retries:
        return Standing.NEW
    if row.retries > retries or row.ended_at is not None:
        return Standing.ENDED
    return Standing.NEW if row.started_at is None else Standing.STARTED
