"""Celery's own scheduler, mended: the schedule is in the settings, and a file has its runs.

Of an entry only its runs are kept: all else is in the settings of the release. Celery keeps the
entries themselves, pickled, in a database of several files that stays open: there a release could
leave what the one before cannot read, the next one finds it locked, a crash in the middle of a write
leaves it damaged, and what is damaged, or locked, Celery deletes.
"""

import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import celery
from celery import Celery
from celery.beat import PersistentScheduler

from celeriac.beat.leading import Leading


class Runs(dict[str, Any]):
    """What a shelf is to Celery's scheduler, in a file that is exchanged as a whole.

    Args:
        app: of the project.
        path: of the file.
    """

    def __init__(self, app: Celery, path: str) -> None:
        # Celery begins anew where these are others than it has: a time here has its zone with it.
        zone = {"tz": app.conf.timezone, "utc_enabled": app.conf.enable_utc}
        super().__init__(entries={}, __version__=celery.__version__, **zone)
        self._app, self._path = app, Path(path)

    def read(self, entry: Callable[..., Any]) -> None:
        """Read the runs; those of no file are none.

        Args:
            entry: makes one, as yet without a schedule.
        """
        if not self._path.exists():
            return
        for name, (last, count) in json.loads(self._path.read_text()).items():
            moment = datetime.fromisoformat(last).astimezone(self._app.timezone)
            self["entries"][name] = entry(name=name, app=self._app, last_run_at=moment, total_run_count=count)

    def sync(self) -> None:
        """Write the runs."""
        runs = {name: (each.last_run_at.isoformat(), each.total_run_count) for name, each in self["entries"].items()}
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}")  # who has lost the lease may not know it yet
        with new.open("w") as file:
            json.dump(runs, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)

    def close(self) -> None:
        """Do nothing: no file is open."""


class FileScheduler(Leading, PersistentScheduler):
    """The schedule of the settings, with its runs in a file."""

    _is_shared = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._store = Runs(self.app, self.schedule_filename)  # until it leads, none

    def reserve(self, entry: Any) -> Any:
        """Note that an entry is being sent, and what it was before."""
        self._before = entry
        return super().reserve(entry)

    def _open_schedule(self) -> Runs:
        runs = Runs(self.app, self.schedule_filename)
        runs.read(self.Entry)
        return runs

    def _unreserve(self, name: str | None) -> None:
        self.schedule[name] = self._before
