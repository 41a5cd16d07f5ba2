"""The DatabaseScheduler, mended, and telling systemd that it ticks.

``READY=1`` goes out with the first completed tick, so the unit is active only when beat works;
``STATUS=`` follows the ticks, in the format of `celeriac.beat_status`.
"""

import time
from typing import Any

from django_celery_beat import schedulers

from celeriac.beat_status import BeatStatus, format_status
from celeriac.notify import notify

# A schedule with many due entries ticks hundreds of times a second.
STATUS_INTERVAL_SECONDS = 1.0


class DatabaseScheduler(schedulers.DatabaseScheduler):
    """django-celery-beat's scheduler, with two amendments and reports to systemd.

    Each run is written to the database at once: Celery's default is every three minutes, and
    after a crash beat would send again what it had sent since.
    """

    _ready = False
    _reported = 0.0  # time.monotonic() of the last report

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.app.conf.beat_sync_every:
            self.sync_every_tasks = 1

    def reserve(self, entry: schedulers.ModelEntry) -> schedulers.ModelEntry:
        """Note that an entry is being sent, in the schedule too.

        The stock scheduler (2.9.0) leaves the old entry, with the old ``last_run_at``, in its
        schedule. When the heap is built again from that, the entry is due a second time.
        """
        following = super().reserve(entry)
        self._schedule[following.name] = following
        return following

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send one due entry, report; return the seconds to sleep until the next tick."""
        delay: float = super().tick(*args, **kwargs)
        self._report()
        return delay

    def close(self) -> None:
        """Say that beat stops, and write the schedule."""
        notify("STOPPING=1")
        super().close()

    def _report(self) -> None:
        now = time.monotonic()
        if self._ready and now - self._reported < STATUS_INTERVAL_SECONDS:
            return
        status = f"STATUS={format_status(self._status())}"
        notify(status if self._ready else f"READY=1\n{status}")
        self._ready, self._reported = True, now

    def _status(self) -> BeatStatus:
        now = time.time()
        next_due = round(max(0.0, self._heap[0].time - now)) if self._heap else None
        return BeatStatus(last_tick=int(now), entries=len(self._schedule), next_due=next_due)
