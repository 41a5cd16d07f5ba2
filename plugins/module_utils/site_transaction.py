"""The release transaction: a release serves, checked from the outside, or everything is as it was.

Whoever reads this first: `STEPS` is the order, and each step is the method of that name. A step may be
interrupted anywhere, by a signal, a power cut or an error. What the next run needs to know is on the disk
by then: a release is built when its first note is there, and made when its second one is; it is recorded when
its aliases are in `/etc`, and everything else is a candidate that the next run ends. What each step does with a
process depends on its kind: `site_kinds.py` has the table. The four steps that are marked with a star run the
operator's own commands, where there are any (`site_release_hooks`, `site_hooks.py`); a run that was killed in
one of them may run them again.

==============  ====================================================================================
lock            nobody else changes the releases of this host meanwhile
choose          (rollback) which release it shall be, and that the database fits it
fetch           the code is on the host
build           the virtualenv is made from the lock file, and the rest by `site_build_commands`; where a run has
                failed in a later step, what it built is taken up
before_migrate  * (deploy) in a release that was checked, on the database as it is
close           (`site_migrate: maintenance`, or where migrations are taken back) people wait, and the old worker and
                beat end what they run
reverse         (rollback) the release that serves takes back the migrations that the other one does not know
restore         (rollback) or the database from before them comes back, from the backups
prepare         checked (here or behind the migrations: `site_check`), every module imported, the database migrated
                (`site_migrate_commands`) behind a restore point, where there are backups; static files collected
publish         nginx finds the static files whose names carry a hash, beside those of the other releases
before_switch   * nothing of the release runs yet: one that fails here answers no request
start           the new processes run beside the old ones; each web process has a readiness check before it accepts
readiness       the new processes answer, work, and are still there
switch          the aliases stand for the new units, until the next boot, and other static files change
retire          the old web processes and the old beat stop; Flower, which cannot overlap, is replaced
health          with them gone, everything answers
after_switch    * only the release serves; the old worker would still go on
drain           the old worker takes nothing new and ends what it runs
record          the aliases stand for the new units for good; the release has passed
open            the maintenance is over that a deploy began, this one or one that was killed
prune           releases, units and tools that nothing needs are removed
after_record    * all is done: what fails here is reported, and undoes nothing
==============  ====================================================================================

Several hosts take a release together: each of them begins (all steps before `drain`), and what has passed there
still is a candidate, as after a run that was killed: nothing of it outlives a boot, and the old worker is there to
go on. When it has passed on all of them, each does the other steps; when it has not, each undoes what it did.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from ansible_collections.celeriac.site.plugins.module_utils import site_backup, site_cards
from ansible_collections.celeriac.site.plugins.module_utils.site_build import MIGRATIONS, Build, Releases
from ansible_collections.celeriac.site.plugins.module_utils.site_checks import Checks, Deadline, Socket
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import (
    HeldError,
    ReleaseError,
    SiteError,
    UnhealthyError,
)
from ansible_collections.celeriac.site.plugins.module_utils.site_hints import with_hints
from ansible_collections.celeriac.site.plugins.module_utils.site_history import History
from ansible_collections.celeriac.site.plugins.module_utils.site_kinds import KINDS, Kind, health, readiness
from ansible_collections.celeriac.site.plugins.module_utils.site_lock import locked
from ansible_collections.celeriac.site.plugins.module_utils.site_maintenance import (
    OfDeploy,
    in_maintenance,
    refuse_paused,
)
from ansible_collections.celeriac.site.plugins.module_utils.site_names import Names
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Order, Shipment, Site
from ansible_collections.celeriac.site.plugins.module_utils.site_points import Point, loss
from ansible_collections.celeriac.site.plugins.module_utils.site_processes import (
    RETIRED,
    RUNNING,
    Process,
    described,
    forgotten,
    left_over,
    release_of,
)
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Run, Systemd

SWITCH = (
    *("before_switch", "start", "readiness"),
    *("switch", "retire", "health", "after_switch"),
    *("drain", "record", "open", "prune", "after_record"),
)
STEPS = {
    "build": ("lock", "fetch", "build"),
    "deploy": ("lock", "fetch", "build", "before_migrate", "close", "prepare", "publish", *SWITCH),
    "rollback": ("lock", "choose", "close", "reverse", "restore", "publish", *SWITCH),
}
# The first step that several hosts do not begin before all of them have come so far.
TOGETHER = "drain"
# Steps behind `record`, and what is to be said of a release that has passed when one of them fails.
BEHIND = {
    "open": "the maintenance could not be ended",
    "prune": "what is old could not be removed",
    "after_record": "a hook has failed, and nothing is undone",
}

# What a release says of a database that it does not fit (runtime/celeriac/release/migrations.py).
UNKNOWN_MIGRATIONS = "the database has migrations that this release does not know"
UNKNOWN_MIGRATION = re.compile(r"(?m)^  (\w+\.\w+)$")
NO_WAY_BACK = "there is no way back over these migrations"

# What a stopped worker runs may take minutes. More than this many of them wait for no deploy.
DRAINS_AT_ONCE = 2
# After an undo: how long to wait for the processes of the bad release, to take it away altogether.
CLEAN_UP_SECONDS = 10


class Transaction:
    """A deploy or a rollback of one release on this host.

    Args:
        run: to run commands.
        site: what is known about it.
        order: what is to be done.
        shipment: what the release of a deploy is made from, None where nothing is.

    Attributes:
        release: the release that it is about; empty while a rollback has not chosen yet.
        seconds: how long each step took.
        hooks: those that were run, a line each.
        remarks: what somebody should know, a sentence each.
    """

    def __init__(self, run: Run, site: Site, order: Order, shipment: Shipment | None = None) -> None:
        self._site = site
        self._order = order
        self._shipment = shipment
        self.release = order.release
        self.releases = Releases(run, site)
        self.history = History(site.root)
        self.seconds: dict[str, float] = {}
        self.hooks: list[str] = []
        self.remarks: list[str] = []
        self._run = run
        self._systemd = Systemd(run)
        self._processes = described(self._systemd, site.processes, site.names)
        self._kinds: dict[str, Kind] = {}  # by the name of the process
        self._units: dict[str, str] = {}  # of this release, by the name of the process
        self._before: dict[str, str] = {}  # what each alias stood for
        self._timers: dict[str, str] = {}  # what each timer was
        self._maintenance = OfDeploy(run, site)
        self._reverses = False  # migrations are in the way of a rollback, and may be taken back
        self._point: Point | None = None  # whose database comes back in place of that
        self._restored = False  # it has
        self._applied: set[str] | None = None  # what the database had when this began a maintenance
        self._step = ""

    def is_settled(self) -> bool:
        """Say whether the release serves already, from the units that are described now."""
        serving = self.history.serving()
        return bool(
            serving
            and serving.release == self.release
            and self.releases.is_made(self.release)
            # A host that lost its power after `switch` has those of the release that was the candidate.
            and self.releases.shows(self.release)
            and not self.releases.choices.are_new()
            and not forgotten(self._systemd, self._site.processes, self._site.names)
            and not _is_left_in_maintenance(self._site.names)
            and all(process.serves(self.release) for process in self._processes)
        )

    def is_built(self) -> bool:
        """Say whether `fetch` and `build` would find nothing to do."""
        return self._build().is_built()

    def run(self) -> None:
        """Do all steps.

        Raises:
            ProcessError: a process does not say of which kind it is, and nothing was begun.
            MaintenanceError: the processes are paused, and nothing was begun.
            ReleaseError: a step failed, and everything is as it was, but for migrations that were
                already applied; or it could not be made so, and the message says what is amiss.
        """
        refuse_paused(self._site.names)
        # Whatever root's is on this host: a mode that is not said would be another one elsewhere.
        os.umask(0o022)
        self.releases.make_folders()
        try:
            what = f"{self._order.kind} of release {self.release or '(the one before)'} by {self._order.by}"
            with locked(self.releases.root / "deploy.lock", what):
                self._do_all()
        except HeldError as error:
            raise ReleaseError(f"another deploy is at work on this host: {error}") from None

    def take_back(self, why: str) -> str:
        """Undo what was begun here, also where a run was killed in the middle.

        Args:
            why: that is done.

        Returns:
            What is to be said of it; empty where nothing was begun.

        Raises:
            ReleaseError: another run is at work here.
        """
        try:
            with locked(self.releases.root / "deploy.lock", f"undo of a release by {self._order.by}"):
                self._look()
                self.release = next(filter(None, map(_release_begun, self._lasting())), "")
                if not self.release:
                    return ""
                self._step = TOGETHER
                self._take_up()
                return self._undone(why)
        except HeldError as error:
            raise ReleaseError(f"another deploy is at work on this host: {error}") from None

    def _look(self) -> None:
        """See what there is before anything is done."""
        self._kinds = {process.name: process.kind for process in self._processes}
        self._before = {process.name: process.recorded() for process in self._processes}
        self._timers = {process.name: process.timer_text() for process in self._timed()}

    def _take_up(self) -> None:
        """Know the units again that were begun with."""
        for process in self._processes:
            if unit := process.candidate() or process.current(self.release):
                self._units[process.name] = unit

    def _do_all(self) -> None:
        self._look()
        steps = STEPS[self._order.kind]
        if self._order.part:
            at = steps.index(TOGETHER)
            steps = steps[:at] if self._order.part == "begin" else ("go_on", *steps[at:])
        try:
            for name in steps:
                self._do(name)
        except (SiteError, OSError) as error:
            raise ReleaseError(self._undone(with_hints(str(error)))) from error
        except BaseException as error:  # somebody ends the run
            self._undone(repr(error))
            raise

    def _do(self, name: str) -> None:
        """Do one step, and note how long it took."""
        self._step, started = name, time.monotonic()
        step: Callable[[], None] = getattr(self, name)
        step()
        self.seconds[name] = round(time.monotonic() - started, 2)
        self._inject_fault()

    def _inject_fault(self) -> None:
        """Fail on purpose after a step: by an error, a sudden death, or a run that stands still."""
        fault = self._order.fault
        if fault.step != self._step:
            return
        if fault.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)  # until somebody sends SIGCONT
        else:
            raise ReleaseError("This fault was injected: nothing was wrong.")

    # ---- Before anything runs

    def lock(self) -> None:
        """Take away what an interrupted run left in the way. The lock itself is held by now."""
        self.releases.remove_unfinished()

    def choose(self) -> None:
        """Choose the release to go back to, and ask it whether it knows the database.

        Raises:
            ReleaseError: there is none, it never passed, or migrations stand in the way.
        """
        known = self.history.back_to()
        if not self.release:
            if not known:
                raise ReleaseError("There is no release to go back to: none before this one has passed here.")
            self.release = known[0]
        if self.release not in known:
            serves = " It is the one that serves." if self.release in self.history.passed()[-1:] else ""
            these = ", ".join(known) or "none"
            raise ReleaseError(f"{self.release} is no release to go back to.{serves} These are: {these}.")
        if not self._fits_at_first_sight():
            self._ask_whether_it_fits()

    def _ask_whether_it_fits(self) -> None:
        try:
            self.releases.prepare(self.release, ["schema"])
        except ReleaseError as error:
            if UNKNOWN_MIGRATIONS not in str(error):
                raise
            self._choose_a_way(str(error))

    def _choose_a_way(self, why: str) -> None:
        """Choose how the database becomes one that the release knows, as it was said to be right.

        Raises:
            ReleaseError: it was not; with the ways that there are, and what each of them costs.
        """
        ways = [why]
        try:
            # The release that serves has these migrations, and knows the way back; where there is none, it says so.
            costs = self._of_serving("reversible")
            if self._order.reverse:
                self._reverses = True
                return
            ways.append(f"Or let a rollback do that while people wait: `-e migrations=reverse`. It costs:\n{costs}")
        except ReleaseError as error:
            if NO_WAY_BACK not in str(error):
                raise
            ways.append(str(error))
        point = self.releases.points.before(UNKNOWN_MIGRATION.findall(why))
        if point and site_backup.are_made(self._site.names):
            try:
                if others := site_cards.neighbours(self._site.name, "database"):
                    raise LookupError(f"they bring back those of {', '.join(others)} as well")
                costs = loss(self._run, point)
                if self._order.accept_loss:
                    self._point = point
                    return
                ways.append(
                    "Or have the database from before them back from the backups, while people wait: "
                    f"`-e accept_loss=true`. It costs:\n{costs}"
                )
            except LookupError as error:
                ways.append(f"The database from before them cannot be had from the backups: {error}.")
        elif self._order.accept_loss:
            ways.append("The database from before them is in no backup: they were applied without a restore point.")
        raise ReleaseError("\n".join(ways))

    def _of_serving(self, step: str) -> str:
        """Run a step of the release that serves, which is told what the other one knows."""
        known = {"CELERIAC_KNOWN_MIGRATIONS": str(self.releases.path(self.release) / MIGRATIONS)}
        return self.releases.prepare(self._before_release(), [step], known)

    def reverse(self) -> None:
        """Take back what the release does not know, where that was said to be right."""
        if self._reverses:
            self._of_serving("reverse")

    def restore(self) -> None:
        """Have the database back from before what the release does not know, where that was said to be right."""
        if self._point:
            self._restored = True  # or it may be, where somebody ends this in the middle
            site_backup.restore(self._systemd, {"to": self._point.name, "for_rollback": True})

    def _fits_at_first_sight(self) -> bool:
        """Say whether the release knows all that the database has, by what others know of the two.

        To ask the release itself takes as long as Django takes to start. It has the last word.
        """
        try:
            applied = self._checks().applied()
        except UnhealthyError:
            return False
        return bool(applied <= self.releases.migrations(self.release))

    def fetch(self) -> None:
        """See `Build.fetch`."""
        self._build().fetch()

    def build(self) -> None:
        """See `Build.build`."""
        self._build().build()

    def close(self) -> None:
        """Begin a maintenance, where the release is to have one. What a killed run began goes on.

        The release is checked before: people wait for the migrations alone.
        """
        if not self._order.maintenance or not (self._shipment or self._reverses or self._point):
            return
        if self._shipment:
            self._build().check()
        self._applied = self._migrated_so_far()
        self._maintenance.begin(self._order.by, self._order.maintenance)

    def prepare(self) -> None:
        """See `Build.prepare`."""
        now, serves = in_maintenance(self._site.names), any(self._before.values())
        # Before a first release there is nothing to go back to.
        is_backed_up = serves and site_backup.are_made(self._site.names)
        point = f"before-{self.release}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}" if is_backed_up else ""
        try:
            self._build().prepare(beside=serves and not (now and now.paused), point=point)
        finally:
            # It outlives the release, as the migrations do.
            made = self.releases.points.take(self.releases.path(self.release))
            if made and made.why:
                self.remarks.append(f"The database was migrated, but {made.why}: see `playbooks/status.yml`.")

    def _build(self) -> Build:
        assert self._shipment, "what goes back builds nothing"
        return Build(self.releases, self.release, self._shipment)

    def publish(self) -> None:
        """See `Releases.publish`."""
        self.releases.publish(self.release)

    # ---- The switch

    def start(self) -> None:
        """Run the new processes beside the old ones.

        In waves: those of the first are ready before the second is started.
        """
        for process in self._processes:
            unit = process.current(self.release) or process.add(self.release)
            self._units[process.name] = unit
            if not self._before[process.name] and not self._kinds[process.name].timed:
                # A socket starts only when the service of its name is known.
                process.point(unit, candidate=True)
        self._systemd.call("daemon-reload")
        for wave in sorted({kind.wave for kind in KINDS.values() if kind.wave is not None}):
            if units := [self._units[name] for name, kind in self._kinds.items() if kind.wave == wave]:
                self._systemd.start(*units)

    def readiness(self) -> None:
        """Ask the new processes, while the old ones still serve."""
        self._ask(readiness(self._kinds.values()))
        self._all_run(name for name, kind in self._kinds.items() if kind.overlaps)

    def _ask(self, checks: Iterable[str]) -> None:
        """Wait until the answers are right, to each of these methods of `Checks`."""
        deadline, found = self._deadline(), self._checks()
        for name in checks:
            deadline.eventually(getattr(found, name))

    def _all_run(self, names: Iterable[str]) -> None:
        states = self._systemd.states([self._units[name] for name in names])
        for unit, state in states.items():
            if state != "active":
                raise ReleaseError(f"{unit} started, and ended soon after.\n{self._systemd.last_words(unit)}")

    def switch(self) -> None:
        """Let the aliases stand for the new units. A reboot would undo it: it is not recorded yet.

        From here on the new units are started again when they end, as the old ones were: if this run is
        killed, they may have to serve for long. Not what cannot overlap, which is not there yet: until all
        is well, what serves is more urgent.
        """
        for process in self._lasting():
            process.point(self._units[process.name], candidate=True)
            if self._kinds[process.name].overlaps:
                process.promote(self._units[process.name])
        self._systemd.call("daemon-reload")
        self.releases.show(self.release)

    def retire(self) -> None:
        """Stop what is not needed any more, but for what drains, and replace what cannot overlap."""
        others = {
            process.name: [unit for unit in process.running() if unit != self._units[process.name]]
            for process in self._lasting()
            if not self._kinds[process.name].drains
        }
        if every := [unit for units in others.values() for unit in units]:
            for unit in every:
                # To end costs each about as much as to start, all at once, and beside what serves.
                self._systemd.renice(unit, RETIRED)
            self._systemd.call("stop", "--no-block", *every)
        for process in self._lasting():
            if self._kinds[process.name].overlaps:
                continue  # the old one finishes its requests by itself
            if others[process.name]:
                self._systemd.call("stop", *others[process.name])  # until it is gone
            if self._systemd.state(unit := self._units[process.name]) != "active":
                self._systemd.start(unit)

    def health(self) -> None:
        """Ask everything, now that the old ones are gone, but for what drains."""
        self._ask(health(self._kinds.values()))
        self._all_run(process.name for process in self._lasting())

    def go_on(self) -> None:
        """Go on with what was begun here.

        Raises:
            ReleaseError: it is not there any more.
        """
        self._take_up()
        if gone := [process.name for process in self._processes if process.name not in self._units]:
            raise ReleaseError(f"What was begun is not there any more: {', '.join(gone)}.")
        self._all_run(process.name for process in self._lasting())

    def drain(self) -> None:
        """Stop the old workers: each takes nothing new, and ends what it runs."""
        for process in self._processes:
            if self._kinds[process.name].drains:
                if others := [unit for unit in process.running() if unit != self._units[process.name]]:
                    self._systemd.call("stop", "--no-block", *others)
                self._end_drains(process)

    def _end_drains(self, process: Process) -> None:
        """Where more than two drain, the oldest gives back what it runs (a soft shutdown)."""
        for unit in list(process.draining())[:-DRAINS_AT_ONCE]:
            self._systemd.call("kill", "--kill-who=main", "--signal=SIGQUIT", unit)

    def record(self) -> None:
        """Make the switch last, and let timers start the new release.

        Of all else nothing changes for systemd: it knows the names from the candidates.
        """
        for process in self._processes:
            process.point(self._units[process.name], candidate=False)
        self._set_timers({process.name: process.described_timer() for process in self._timed()})
        self.releases.make_current(self.release)
        self._note("serving")
        if self._restored:
            # Whoever goes back again from here needs one that this way began with.
            self._systemd.call("start", "--no-block", f"{site_backup.DATABASE}.service")

    def _lasting(self) -> list[Process]:
        """Return the processes that are there all the time."""
        return [process for process in self._processes if not self._kinds[process.name].timed]

    def _timed(self) -> list[Process]:
        """Return the processes that a timer starts. A run that has begun ends in its release."""
        return [process for process in self._processes if self._kinds[process.name].timed]

    def _set_timers(self, texts: dict[str, str]) -> None:
        """Let timers be what they are to be, and start what their aliases stand for now."""
        if not texts:
            return
        for process in self._timed():
            process.install_timer(texts[process.name])
        self._systemd.call("daemon-reload")
        # Anew, not only where it has changed: one whose command runs would wait for the end of the unit that it knew.
        if wanted := [process.timer for process in self._timed() if texts[process.name]]:
            self._systemd.start(*wanted, verb="restart")

    def _note(self, outcome: str, reason: str = "") -> None:
        commit = str(self.releases.note(self.release).get("commit", ""))
        self.history.append(self.release, outcome, self._order.kind, by=self._order.by, commit=commit, reason=reason)

    def open(self) -> None:
        """End the maintenance that a deploy began. One of an operator's goes on."""
        self._maintenance.end()

    def prune(self) -> None:
        """Remove what nothing needs any more."""
        for process in forgotten(self._systemd, self._site.processes, self._site.names):
            # A socket or a timer that stayed would start what is not there. What a timer has started ends by itself.
            if units := [*process.starters(), *([] if process.timed else process.running())]:
                self._systemd.call("stop", "--no-block", *units)
            process.forget()
        for process in [*self._processes, *left_over(self._systemd, self._site.processes, self._site.names)]:
            process.forget_ended()
        self._systemd.call("daemon-reload")
        self.releases.remove_built(but=self.release)
        self.releases.remove(self.releases.old([self.release], self._site.kept))
        if self._order.kind == "deploy":  # what goes back builds nothing
            self.releases.prune_cache()
            self._build().prune()

    # ---- Hooks

    def before_migrate(self) -> None:
        """Run the operator's commands while the database is still that of the release before."""
        if self._order.hooks.get("before_migrate"):
            # A release that cannot be imported fails here, and not in the middle of a command.
            self._build().check()
        self._run_hooks("before_migrate")

    def before_switch(self) -> None:
        """Run the operator's commands while nothing of the release runs: from `start` on it answers requests."""
        self._run_hooks("before_switch")

    def after_switch(self) -> None:
        """Run the operator's commands when only the release serves. The old workers are still there to go on."""
        self._run_hooks("after_switch")

    def after_record(self) -> None:
        """Run the operator's commands when all is over."""
        self._run_hooks("after_record")

    def _run_hooks(self, point: str) -> None:
        environment = {
            "CELERIAC_HOOK": point,
            "CELERIAC_COMMAND": self._order.kind,
            "CELERIAC_PREVIOUS_RELEASE": self._before_release(),
            "CELERIAC_HOST": self._order.host,
            "CELERIAC_PERFORMER": self._order.by,
        }
        for hook in self._order.hooks.get(point, ()):
            began = time.monotonic()
            self.releases.run_hook(self.release, hook, environment)
            self.hooks.append(f"{point}: {hook.name} ({time.monotonic() - began:.2f} s)")

    # ---- The way back

    def _undone(self, reason: str) -> str:
        """Bring back what served, take away what is new, note it; return all that there is to say."""
        if self._step in {"lock", "choose"}:
            return reason  # nothing was begun
        if self._step in BEHIND:
            return f"Release {self.release} serves, but {BEHIND[self._step]}.\n{reason}"
        outcome = "kept" if self._before_release() == self.release else "undone"
        failed = f"Release {self.release} was not switched in" + (
            "." if self._order.part == "undo" else f": step {self._step} failed."
        )
        try:
            if self._restored:
                site_backup.take_back(self._systemd)
            if self._units:
                self._restore()
            reason += self._end_maintenance()
            reason += self._move_back()
            with contextlib.suppress(OSError):  # a full disk has no room for a note
                self._note(outcome, reason)
            self._forget_release()
        except (SiteError, OSError) as error:
            return f"{failed} What was before could not be brought back whole: {error}\n{reason}"
        served = self.history.serving()
        now = f"Release {served.release} serves on." if served else "No release serves yet."
        return f"{failed} {now}\n{reason}"

    def _end_maintenance(self) -> str:
        """End the maintenance of this deploy, unless the release that is back may not know the database any more.

        Returns:
            What is to be said of it, empty for nothing.
        """
        if not _is_left_in_maintenance(self._site.names):
            return ""
        if self._applied is not None and self._migrated_so_far() == self._applied:
            self._maintenance.end()
            return ""
        self._maintenance.hold()
        return (
            "\nThe database may have been migrated meanwhile to what the release that is back does not know: people "
            "still wait, and workers are paused. The next deploy that passes ends that: ship a repair. "
            "Or look at the site, and end it: `playbooks/maintenance.yml -e state=off`."
        )

    def _move_back(self) -> str:
        """Move what was sent through a new broker to the one that the processes have which are back.

        Returns:
            What is to be said of it, empty for nothing.
        """
        units = [
            (process.broker(self._before[process.name]), process.broker(self._units[process.name]))
            for process in self._processes
            if self._before.get(process.name) and process.name in self._units
        ]
        if all(before in {"", now} for before, now in units):
            return ""
        self._wait_for_units()
        try:
            self.releases.prepare(self.release, ["move_back"])
        except ReleaseError as error:
            return f"\nTasks that were sent through the new broker meanwhile are still there: {error}"
        return ""

    def _migrated_so_far(self) -> set[str] | None:
        """Return the migrations that the database has; None where nothing answers that knows."""
        try:
            return self._checks().applied()
        except UnhealthyError:
            return None

    def _before_release(self) -> str:
        """Return the release that the aliases stood for when this began, empty for none."""
        found = {release_of(unit) for unit in self._before.values() if unit}
        return found.pop() if len(found) == 1 else ""

    def _restore(self) -> None:
        """Let the units that were recorded serve again, and stop those of this release."""
        back: dict[str, str] = {}
        to_start = []
        for process in self._lasting():
            old = self._before[process.name]
            if not old:
                continue
            state = self._systemd.state(old)
            new = self._units.get(process.name, old)
            if not self._kinds[process.name].overlaps and new != old:
                # A request would start again what the alias stands for.
                process.withdraw()
                self._systemd.call("daemon-reload")
                self._systemd.call("stop", new)
            if state == "deactivating":
                # It drains and cannot be called back: another of its kind takes over.
                back[process.name] = process.add_again(old)
            else:
                back[process.name] = old
            if state not in RUNNING:
                to_start.append(back[process.name])
        self._systemd.call("daemon-reload")
        if to_start:
            self._systemd.start(*to_start)
        for process in self._lasting():
            if process.name in back:
                process.point(back[process.name], candidate=False)
            else:
                process.withdraw()
        self._restore_timers()
        self._systemd.call("daemon-reload")
        for process in self._lasting():
            if others := [unit for unit in process.running() if unit != back.get(process.name)]:
                self._systemd.call("stop", "--no-block", *others)
        before = self._before_release()
        if before and self.releases.is_made(before):
            self.releases.publish(before)
            self.releases.show(before)
            self.releases.make_current(before)

    def _restore_timers(self) -> None:
        """Bring back what was before `record`, which is the first step that changes a timer."""
        if self._step != "record":
            return
        for process in self._timed():
            if old := self._before[process.name]:
                process.point(old, candidate=False)
        new = [process.timer for process in self._timed() if not self._timers[process.name]]
        if new := [timer for timer in new if self._systemd.state(timer) == "active"]:
            self._systemd.call("stop", *new)
        self._set_timers(self._timers)

    def _forget_release(self) -> None:
        """Leave of a release that never served what was built. A worker that still drains keeps all of it."""
        self._wait_for_units()
        for process in self._processes:
            process.forget_ended()
        self._systemd.call("daemon-reload")
        self.releases.remove_built(but=self.release)
        # A first one stays until the next run: `site-manage` may be what finds out why it does not work.
        passed = self.history.passed()
        if passed and self.release not in passed and self.releases.path(self.release).exists():
            self.releases.give_up(self.release)

    def _wait_for_units(self) -> None:
        """Wait a little for the units of this release to end."""
        deadline = time.monotonic() + CLEAN_UP_SECONDS
        while "deactivating" in self._systemd.states(list(self._units.values())).values():
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)

    # ---- Questions

    def _deadline(self) -> Deadline:
        return Deadline(self._site.timeout)

    def _checks(self) -> Checks:
        web, monitor = (Socket(path, self._site.domain) for path in (self._site.socket, self._site.monitor_socket))
        units: dict[Kind, list[str]] = {}
        for name, unit in self._units.items():
            units.setdefault(self._kinds[name], []).append(unit)
        return Checks(self._systemd, web, monitor, self.release, self._site, units)


def _release_begun(process: Process) -> str:
    """Return the release of a switch that has not ended, wherever it was ended; empty for none."""
    recorded = process.recorded()
    begun = process.candidate() or next((unit for unit in process.running() if unit != recorded), "")
    return release_of(begun)


def _is_left_in_maintenance(names: Names) -> bool:
    """Say whether a deploy that was killed has left a maintenance behind, which the next one ends."""
    now = in_maintenance(names)
    return bool(now and now.then)
