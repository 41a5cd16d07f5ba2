"""Brings the marks of a worker to the database: many at a time, in a thread of its own.

The worker's event loop only puts them on a list: a task has started, or ended. Every quarter of a
second they become one UPDATE for all that started, one for all that ended, and one for what did
both. A mark changes the row of its own publication; where the row is not there, or is of a later
one, it changes nothing. What is on the list when a worker is killed is lost with it.
"""

import logging
import math
import threading
import time
from collections import Counter as Count
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import connections, router, transaction
from django.db.models import F
from django.db.utils import InterfaceError, OperationalError

from celeriac import clock, forks
from celeriac.ledger.models import NOT_MARKED, Counter, Dispatch
from celeriac.postgresql import private_connection

# Also how exact the times are, so that many marks are alike.
FLUSH_SECONDS = 0.25
BATCH = 500
# Marks kept while the database is away: an hour of a slow site, two minutes of a fast one.
KEPT = 100_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Mark:
    """What happened to one publication of a task, once or in the time of a flush."""

    starts: int = 0
    started_at: datetime | None = None
    limit: float | None = None
    ended_at: datetime | None = None

    def __add__(self, later: "_Mark") -> "_Mark":
        last = later if later.starts else self
        starts = self.starts + later.starts
        return _Mark(starts, last.started_at, last.limit, later.ended_at or self.ended_at)


# Task id and publication.
_Key = tuple[str, str]


class Recorder(threading.Thread):
    """Writes a worker's marks into the journal. The methods may be called from any thread."""

    def __init__(self, worker: str) -> None:
        """Prepare it.

        Args:
            worker: node name.
        """
        super().__init__(name="celeriac-recorder", daemon=True)
        self._worker = worker
        self._pending: deque[tuple[_Key, _Mark]] = deque(maxlen=KEPT)
        self._counted: Count[str] = Count()
        self._wake = threading.Event()
        self._stopped = False

    def started(self, task_id: str, publication: str, limit: float | None) -> None:
        """Note a start.

        Args:
            task_id: of the task.
            publication: which of those under this id.
            limit: after how many seconds it is killed, None for never.
        """
        self._pending.append(((task_id, publication), _Mark(1, _now(), limit)))

    def ended(self, task_id: str, publication: str) -> None:
        """Note an end, however it ended."""
        self._pending.append(((task_id, publication), _Mark(ended_at=_now())))

    def stop(self, seconds: float) -> None:
        """Write what is left, for so long at most."""
        self._stopped = True
        self._wake.set()
        if self.is_alive():
            self.join(seconds)

    def run(self) -> None:
        """Write, until the end."""
        with private_connection(Dispatch):
            while True:
                last = self._stopped
                with forks.turn():
                    try:
                        self.flush()
                    except Exception as error:
                        _log.warning("The journal cannot be written; marks are kept: %r", error)
                        connections.close_all()  # those of this thread
                if last:
                    return
                self._wake.wait(FLUSH_SECONDS)
                self._wake.clear()

    def flush(self) -> None:
        """Write what is pending.

        Raises:
            OperationalError, InterfaceError: the database is away. All of it is kept.
        """
        while self._pending:
            taken: list[tuple[_Key, _Mark]] = []
            with suppress(IndexError):
                while len(taken) < BATCH:
                    taken.append(self._pending.popleft())
            try:
                self._write(taken)
            except (InterfaceError, OperationalError):
                self._pending.extendleft(reversed(taken))
                raise
            except Exception:
                self._write_one_by_one(taken)
        while self._counted:
            name, number = self._counted.popitem()
            try:
                Counter.add(name, number)
            except Exception:
                self._counted[name] += number
                raise

    def _write_one_by_one(self, pending: list[tuple[_Key, _Mark]]) -> None:
        """Write marks of which one at least cannot be: that one is dropped, and counted."""
        while pending:
            forks.rest()
            try:
                self._write(pending[:1])
            except (InterfaceError, OperationalError):
                self._pending.extendleft(reversed(pending))
                raise
            except Exception as error:
                _log.warning("A mark of task [%s] is dropped: %r", pending[0][0][0], error)
                self._counted[NOT_MARKED] += 1
            del pending[0]

    def _write(self, pending: list[tuple[_Key, _Mark]]) -> None:
        marks: dict[_Key, _Mark] = {}
        for key, mark in pending:
            marks[key] = marks[key] + mark if key in marks else mark
        alike: dict[_Mark, list[_Key]] = defaultdict(list)
        for key, mark in marks.items():
            alike[mark].append(key)
        # All or nothing: what is kept for another time must not be half written.
        with transaction.atomic(using=router.db_for_write(Dispatch)):
            for mark, keys in alike.items():
                task_ids, publications = zip(*sorted(keys), strict=True)
                rows = Dispatch.objects.filter(task_id__in=task_ids, publication__in=publications)
                rows.update(**self._changes(mark))

    def _changes(self, mark: _Mark) -> dict[str, object]:
        changes: dict[str, object] = {}
        if mark.started_at is not None:
            changes |= {
                "starts": F("starts") + mark.starts,
                "started_at": clock.stored(mark.started_at),
                "overdue_at": _overdue(mark.started_at, mark.limit),
                "worker": self._worker,
            }
        if mark.ended_at is not None:
            changes["ended_at"] = clock.stored(mark.ended_at)
        return changes


# Between the time limit of a task and the word of its worker that it ended.
_GRACE = timedelta(seconds=60)


def _overdue(started_at: datetime, limit: float | None) -> datetime | None:
    """Return by when a task has ended, None for never, and for later than there are dates."""
    if limit is None:
        return None
    try:
        return clock.stored(started_at + timedelta(seconds=limit) + _GRACE)
    except OverflowError:
        return None


def _now() -> datetime:
    """Return when what happens now is written, at the earliest."""
    return datetime.fromtimestamp(math.ceil(time.time() / FLUSH_SECONDS) * FLUSH_SECONDS, UTC)
