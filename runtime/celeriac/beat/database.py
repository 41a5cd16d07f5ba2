"""django-celery-beat's scheduler, mended: the schedule is in the database.

**A faulty entry** (`celeriac.entries`) is named in the log and in the status; all others go on. It
is looked at again when the schedule is read again, every five minutes and after each change.
"""

from typing import Any

from celery.utils.log import get_logger
from django.core.exceptions import ValidationError
from django.db import Error, router
from django_celery_beat import schedulers
from django_celery_beat.models import PeriodicTask

from celeriac import entries
from celeriac.beat.leading import Leading

_log = get_logger(__name__)


class DatabaseScheduler(Leading, schedulers.DatabaseScheduler):
    """The schedule in the tables of django-celery-beat, or of a project that has some of its own."""

    Entry: Any
    _schedule: Any = None  # entries by their names, once it was read
    _faults: dict[str, str]
    _logged: set[tuple[str, str]]  # of these, what is in the log

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._faults, self._logged = {}, set()
        self._alias = router.db_for_write(self.Model)
        if not issubclass(self.Entry, entries.Zoned):
            self.Entry = type(self.Entry.__name__, (entries.Zoned, self.Entry), {})
        super().__init__(*args, **kwargs)

    def enabled_models(self) -> list[Any]:
        """Return the rows, though the schedule of one of them cannot be read."""
        together = getattr(super(), "enabled_models", self.Model.objects.enabled)  # django-celery-beat 2.8
        return entries.enabled(together, self.Model)

    def schedule_changed(self) -> bool:
        """Say whether the schedule was changed since it was read.

        The stock scheduler takes the first time of a change that it finds for what it has read: a
        change just behind the reading, or the first one of all, was not seen for five minutes.
        """
        first = self._last_timestamp is None
        changed: bool = super().schedule_changed()
        return changed or (first and self._last_timestamp is not None)

    def all_as_schedule(self) -> dict[str, Any]:
        """Return the entries of the rows that can be sent; the others are named.

        The stock scheduler ends at one whose schedule cannot be made, and disables one whose
        arguments are no JSON.
        """
        self._faults = {}
        found = {}
        for row in self.enabled_models():
            try:
                entries.validate(row)
                entry = self.Entry(row, app=self.app)
                entry.is_due()
                found[entry.name] = entry  # by which it is noted, and that may differ from the row's
            except Error:
                raise
            except Exception as error:
                self._mark_faulty(row.name, error)
        return found

    def _mark_faulty(self, name: str, error: BaseException) -> None:
        """Keep why an entry cannot be sent; once is enough for the log."""
        self._faults[name] = why = entries.describe(error)
        if (name, why) not in self._logged:
            _log.error("beat: %r cannot be sent, the others go on: %s", name, why)
            self._logged.add((name, why))

    def reserve(self, entry: schedulers.ModelEntry) -> schedulers.ModelEntry:
        """Note that an entry is being sent, in the schedule too.

        The stock scheduler (2.9.0) leaves the old entry, with the old ``last_run_at``, in its
        schedule. When the heap is built again from that, the entry is due a second time.
        """
        following = super().reserve(entry)
        self._schedule[following.name] = following
        return following

    def _entries(self) -> Any:
        return self._schedule

    def _preview(self) -> None:
        self.enabled_models()

    def _is_due(self, entry: schedulers.ModelEntry) -> Any:
        """Name an entry of which nobody knows any more when it is due."""
        try:
            return super()._is_due(entry)
        except Error:
            raise
        except Exception as error:
            self._mark_faulty(entry.name, error)
            return False, schedulers.SCHEDULE_SYNC_MAX_INTERVAL

    def _unreserve(self, name: str | None) -> None:
        self._dirty.discard(name)

    def _write(self) -> None:
        """Write the runs. The stock scheduler forgets one that it could not write; here it stays to be written."""
        for name in list(self._dirty):
            try:
                self._schedule[name].save()
            except Error as error:
                _log.error("beat: the run of %s is not written yet: %r", name, error)
                return
            except (KeyError, self.Model.DoesNotExist):
                _log.info("beat: %s was deleted meanwhile", name)
            except ValidationError as error:  # it was changed meanwhile, to what cannot be
                self._mark_faulty(name, error)
            self._dirty.discard(name)

    def _install(self) -> None:
        """Let the schedule be as the settings have it, and the runs as others wrote them."""
        unwritten = {name: self._schedule[name] for name in self._dirty & set(self._schedule or ())}
        self._dirty.clear()
        waiting = self._never_run()
        self._initial_read = True
        super()._install()
        self._restore(waiting)
        # Again, for what the settings brought was not looked through.
        self._schedule = self.all_as_schedule()
        for name, ours in unwritten.items():
            theirs = self._schedule.get(name)
            if theirs is not None and theirs.last_run_at < ours.last_run_at:
                theirs.last_run_at = theirs.model.last_run_at = ours.last_run_at
                theirs.model.total_run_count = ours.model.total_run_count
                self._dirty.add(name)

    def _never_run(self) -> dict[tuple[Any, ...], Any]:
        """Return since when entries wait for their first run; the keys are entry and schedule.

        None of a model of the project's own, to which the settings are not written.
        """
        if not issubclass(self.Model, PeriodicTask):
            return {}
        rows = self.Model.objects.enabled().filter(last_run_at=None)
        schedule = ("pk", "interval_id", "crontab_id", "solar_id", "clocked_id")
        return {row[:-1]: row[-1] for row in rows.values_list(*schedule, "date_changed")}

    def _restore(self, waiting: dict[tuple[Any, ...], Any]) -> None:
        """Let entries wait from when they did.

        The stock scheduler counts from the last change of the row, and writes the rows of the
        settings at each start: what is due once a week would never be with a deploy every day.
        """
        now = self._never_run()
        for key in waiting.keys() & now.keys():
            if now[key] != waiting[key]:
                self.Model.objects.filter(pk=key[0]).update(date_changed=waiting[key])
