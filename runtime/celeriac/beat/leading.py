"""What each scheduler of ours does: sends while it leads, tells systemd that it ticks, ends when it is told to.

**The lease.** On PostgreSQL a beat sends only while it holds the lease (`celeriac.beat.lease`); the
others stand by, and one of them takes over as soon as it is free. So a deploy may start the new
release's beat beside the old one. Who takes over installs the schedule of its own settings and
reads all of it again, with the runs that the one before wrote down; a beat on standby writes
nothing. The lease is looked after before every send, and between the attempts of one that is tried
again. Two ends are left open, as in every lock of this kind: who is killed between a send and its
note has it sent again, and who is frozen there for longer than its lease lives, and then thawed,
may send it as the second one.

On other databases (SQLite on a developer's computer) there is no lease: beat works alone, and a
second one sends everything twice.

**READY** goes out with the first completed tick of the one that sends, and with the first look of
one that stands by and has found the schedule readable. ``STATUS=`` follows, in the format of
`celeriac.beat.status`.

**The watchdog** is fed by ticks, those of a standby too, and by attempts to reach the broker, each
of which ends by its own timeouts. A database that is away makes a standby, which ticks.

**SIGTERM** lets a send be finished, and what waits for the broker be left to the successor; then
the schedule is written, and the lease released.
"""

import os
import signal
import time
from collections.abc import Mapping
from heapq import heapreplace
from math import inf
from typing import Any

from celery import signals
from celery.beat import Scheduler
from celery.utils.log import get_logger
from django.db import DEFAULT_DB_ALIAS, Error, connections

from celeriac.beat.lease import Lease
from celeriac.beat.status import NAMED, BeatStatus, Standby, format_status
from celeriac.systemd import Watchdog, notify

# A schedule with many due entries ticks hundreds of times a second.
STATUS_INTERVAL_SECONDS = 1.0

# How soon a free lease is found, and how soon a database that is back.
STANDBY_SECONDS = 0.1
NO_DATABASE_SECONDS = 1.0

_log = get_logger(__name__)


class Abandoned(BaseException):
    """A send is given up, and its run left to whoever leads next.

    No `Exception`, because Celery logs those and takes the run for done.
    """


class Leading(Scheduler):
    """What goes before a scheduler of Celery's: a lease, some amendments, and reports to systemd.

    Each run is written down at once: Celery's default is every three minutes, and after a crash
    beat would send again what it had sent since.
    """

    _alias = DEFAULT_DB_ALIAS  # of the database that has the lease
    _is_shared = True  # whether a beat on another host knows what was sent
    _faults: Mapping[str, str] = {}  # why entries cannot be sent, by their names
    _not_due: tuple[Any, float] | None = None  # what the heap has on top, and in how many seconds it is due
    _leads = False
    _busy = False  # in a tick, which a signal must not cut in two
    _stopping = False
    _sending: str | None = None  # the entry that is being sent
    _send_failed = False  # at least once, of that one
    _ready = False
    _reported: Standby | type[BeatStatus] | None = None
    _reported_at = 0.0  # time.monotonic()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.Producer = self._producer
        if not self.app.conf.beat_sync_every:
            self.sync_every_tasks = 1
        self._watchdog = Watchdog()
        self._lease = Lease(self._alias) if self._vendor() == "postgresql" else None

    def begin(self) -> None:
        """Take over the signals of the process, and watch its sends.

        Raises:
            SystemExit: there are beats on other hosts, and nothing keeps them from sending the same.
        """
        if why := self._why_alone():
            raise SystemExit(
                f"beat: on {os.environ['CELERIAC_BEAT_HOSTS']} hosts each entry would be sent as often, for {why}: "
                "the inventory's group `beat` can have one host"
            )
        if self._lease is None:
            _log.warning("beat: no lease on %s; a second beat would send twice", self._vendor())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def setup_schedule(self) -> None:
        """Do nothing yet: a beat that only stands by must leave the schedule as it is."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send one due entry, or look for the lease; report.

        Returns:
            The seconds to sleep until the next tick.

        Raises:
            SystemExit: a signal came meanwhile.
        """
        self._busy = True
        try:
            delay, status = self._tick(*args, **kwargs)
        finally:
            self._busy = False
        if self._stopping:
            raise SystemExit
        self._report(status)
        self._watchdog.feed()
        return self._longest_pause(delay)

    def is_due(self, entry: Any) -> Any:
        """Note what the heap has on top that is not due."""
        due, seconds = self._is_due(entry)
        self._not_due = None if due or not self._heap else (self._heap[0], seconds)
        return due, seconds

    def reserve(self, entry: Any) -> Any:
        """Note that an entry is being sent."""
        self._sending, self._send_failed = entry.name, False
        return super().reserve(entry)

    def sync(self) -> None:
        """Write the runs of the entries sent. Without the lease that is not ours to do."""
        if self._leads:
            self._write()

    def close(self) -> None:
        """Report that beat stops, write the schedule, release the lease."""
        notify("STOPPING=1")
        self.sync()
        if self._lease is not None:
            self._leads = False
            self._lease.release()
        super().close()

    # What a kind of schedule has of its own.

    def _entries(self) -> Mapping[str, Any]:
        """Return the entries by their names, as they were read."""
        entries: Mapping[str, Any] = self.schedule
        return entries

    def _preview(self) -> None:
        """Find out whether this release can read the schedule, and leave it as it is."""

    def _install(self) -> None:
        """Bring the schedule of the settings to where it is kept, and read it again."""
        self._heap = None
        super().setup_schedule()

    def _is_due(self, entry: Any) -> Any:
        return super().is_due(entry)

    def _unreserve(self, name: str | None) -> None:
        """Let the run of the entry that is being sent be due again."""

    def _write(self) -> None:
        super().sync()

    # The lease.

    def _why_alone(self) -> str:
        """Return why there can be no beat on another host; empty where there is none, or may be."""
        if os.environ.get("CELERIAC_BEAT_HOSTS", "") in {"", "0", "1"}:
            return ""
        if self._lease is None:
            return f"there is no lease on {self._vendor()}"
        return "" if self._is_shared else "what was sent is in a file of the host"

    def _vendor(self) -> str:
        vendor: str = connections[self._alias].vendor
        return vendor

    def _tick(self, *args: Any, **kwargs: Any) -> tuple[float, BeatStatus | Standby]:
        """Return the seconds until the next tick, and how beat is."""
        try:
            if self._lease is not None and not self._lease.acquire():
                if not self._ready:
                    self._preview()
                return STANDBY_SECONDS, Standby.ANOTHER_LEADS
            if not self._leads:
                self._take_over()
            delay: float = super().tick(*args, **kwargs)
            return min(delay, self._sort_again()), self._status()
        except Error as error:
            if self._reported is not Standby.NO_DATABASE:  # once is enough
                _log.error("beat: the database does not answer: %r", error)
            self._step_down()
            return NO_DATABASE_SECONDS, Standby.NO_DATABASE
        except Abandoned:
            if not self._stopping:
                self._step_down()
            return 0, Standby.NO_DATABASE

    def _take_over(self) -> None:
        """Begin to send: with the schedule of our settings, and the runs that others wrote."""
        connections[self._alias].close()  # it may be half dead since the database was away
        self._install()
        self._leads = True
        self.sync()
        if self._lease is not None:
            _log.info("beat: leads, with %d entries", len(self._entries()))

    def _step_down(self) -> None:
        """Send nothing until the lease is ours again."""
        if self._leads and self._lease is not None:
            _log.error("beat: leads no more")
        self._leads = False
        if self._lease is not None:
            self._lease.release()
        connections[self._alias].close()

    def _sort_again(self) -> float:
        """Move an entry that is not due yet from the top, where it holds up all others.

        Celery does it since 5.7 (https://github.com/celery/celery/issues/7649).

        Returns:
            The seconds until another one, which is on top then, may be due.
        """
        event, seconds = self._not_due or (None, 0.0)
        self._not_due = None
        if event is None or not self._heap or self._heap[0] is not event:
            return inf
        _, priority, entry = event
        heapreplace(self._heap, type(event)(self._when(entry, seconds), priority, entry))
        at, _, following = self._heap[0]
        return inf if following is entry else max(0.0, at - self._when(entry, 0))

    # The broker.

    def _ensure_connected(self) -> Any:
        """Connect to the broker, however long it is away."""

        def failed(error: Exception, interval: float) -> None:
            _log.error("beat: Connection error: %s. Trying again in %s seconds", error, interval)

        return self.connection.ensure_connection(
            failed,
            self.app.conf.broker_connection_max_retries,
            interval_max=self._longest_pause(5),
            callback=self._between_attempts,  # every second
        )

    def _producer(self, *args: Any, **kwargs: Any) -> Any:
        """Return a producer of the project's that has us called between the attempts to send.

        Not by the options of an entry: a scheduler of the project's own may keep those as JSON.
        """
        made = self.app.amqp.Producer(*args, **kwargs)
        publish = made.publish

        def patiently(*args: Any, retry_policy: dict[str, Any] | None = None, **options: Any) -> Any:
            return publish(*args, retry_policy=self._retry_policy(retry_policy or {}), **options)

        made.publish = patiently
        return made

    def _retry_policy(self, policy: dict[str, Any]) -> dict[str, Any]:
        """Return how to try again: whatever ``Connection.ensure`` of kombu takes."""
        of_project = policy.get("errback")

        def failed(error: Exception, interval: float) -> None:
            if not self._send_failed:  # once is enough: the next attempts are a second apart
                _log.warning("beat: %s is not sent yet, trying again: %s", self._sending, error)
            self._send_failed = True
            if of_project is not None:
                of_project(error, interval)
            self._between_attempts()

        # Before kombu 5.7 the first pause may be longer than the longest, and this is over and above the first.
        pauses = {name: self._longest_pause(policy.get(name, 1)) for name in ("interval_start", "interval_max")}
        return {**policy, **pauses, "errback": failed}

    def _longest_pause(self, seconds: float) -> float:
        """Return for how many of these seconds one may sleep under the watchdog."""
        limit = self._watchdog.seconds
        return seconds if limit is None else min(seconds, limit / 3)

    def _between_attempts(self) -> None:
        """Go on trying only while the lease is ours and nobody waits for our end.

        Raises:
            Abandoned: the entry is due again, for whoever leads next.
        """
        self._watchdog.feed()
        try:
            ours = self._lease is None or self._lease.acquire()
        except Error as error:
            _log.error("beat: the lease is lost: %r", error)
            ours = self._leads = False
        if self._stopping or not ours:
            _log.warning("beat: %s is left to the next beat", self._sending)
            self._unreserve(self._sending)
            raise Abandoned

    # systemd.

    def _stop(self, *_: object) -> None:
        """Handle SIGTERM. Celery's own handler would end beat in the middle of a send."""
        again, self._stopping = self._stopping, True
        if not (self._busy or again):
            raise SystemExit

    def _report(self, status: BeatStatus | Standby) -> None:
        """Tell systemd: at once what is new, else once a second."""
        kind = type(status) if isinstance(status, BeatStatus) else status
        now = time.monotonic()
        if kind == self._reported and now - self._reported_at < STATUS_INTERVAL_SECONDS:
            return
        line = f"STATUS={format_status(status)}"
        if self._ready or status is Standby.NO_DATABASE:
            notify(line)
        else:
            self._ready = True
            notify(f"READY=1\n{line}")
        self._reported, self._reported_at = kind, now

    def _status(self) -> BeatStatus:
        now = time.time()
        next_due = round(max(0.0, self._heap[0].time - now)) if self._heap else None
        return BeatStatus(
            last_tick=int(now),
            entries=len(self._entries().keys() - self._faults.keys()),
            next_due=next_due,
            faulty=len(self._faults),
            named=tuple(sorted(self._faults)[:NAMED]),
        )


@signals.beat_init.connect
def _begin(sender: Any, **_: Any) -> None:
    """Set the scheduler up as that of this process, now that Celery has set its signals."""
    sender.scheduler.begin()
