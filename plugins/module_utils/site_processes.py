"""The site's processes on a host: how each is described, which unit runs it, and what its alias stands for.

What is called `site` here is so for the site called `default`; another one has its own name there (`site_names.py`).

A role describes a process once, in `/etc/site/processes/<name>.service`: a unit with `@RELEASE@` where
the release belongs, and `@UNIT@` where its own name does. A release runs it as
`<name>-<release>.service`, or with `-2`, `-3`, … behind it while a unit of that name still drains. The
alias `<name>.service` is a symlink to the unit that serves.

What the unit reads as its environment is a copy of its own, in `/etc/site/environments/<unit>/`. The files
that are copied belong to the inventory, and are ahead of what serves until a deploy has passed: a process
that systemd starts again must find what it was checked with.

An alias has two places. What is in `/etc` has passed every check. While a unit is a candidate the link
is in `/run`, which systemd reads first (systemd.unit(5), "Unit File Load Path"): a host that loses its
power in the middle forgets it, and boots into what it had before.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.celeriac.site.plugins.module_utils.site_errors import ProcessError
from ansible_collections.celeriac.site.plugins.module_utils.site_files import (
    link_atomically,
    target_of,
    write_atomically,
)
from ansible_collections.celeriac.site.plugins.module_utils.site_kinds import KINDS, TIMER, Kind
from ansible_collections.celeriac.site.plugins.module_utils.site_names import Names
from ansible_collections.celeriac.site.plugins.module_utils.systemd import (
    UNIT_DIRECTORY,
    Systemd,
    newest_change,
    parse_timestamp,
)

ENVIRONMENT_FILE = re.compile(r"(?m)^EnvironmentFile=(.*)$")
KIND = re.compile(r"(?m)^Kind=(.*)$")
PART_OF = re.compile(r"(?m)^PartOf=(.*)$")
# The first place of the load path that forgets what it holds at a reboot.
CANDIDATE_DIRECTORY = Path("/run/systemd/system.control")
# Of a candidate: it is not started a second time, a web process has a readiness check, and what
# serves is more urgent.
URGENT, CANDIDATE, RETIRED = 0, 5, 10  # nice levels
CANDIDATE_SETTINGS = "[Service]\nRestart=no\nEnvironment=CELERIAC_JUDGE=1\nNice={nice}\n"
NICE = re.compile(r"(?m)^Nice=(-?\d+)$")
# Where systemd notes when a timer that catches up has run last (systemd.timer(5), Persistent=).
STAMPS = Path("/var/lib/systemd/timers")
RUNTIME_UNITS = Path("/run/systemd/system")

# A release is 12 hexadecimal digits; anything longer belongs to a pool of its own.
UNIT_NAME = re.compile(r"(?P<process>[a-z][a-z0-9-]*?)-(?P<release>[0-9a-f]{12})(-\d+)?\.service")

RUNNING = frozenset({"active", "activating", "reloading", "refreshing"})
ENDED = frozenset({"inactive", "failed"})


BROKER_URL = re.compile(rb'(?m)^CELERIAC_BROKER_URL="([a-z]+)://')
# As the filter `systemd_environment` writes it.
_REDIS_PASSWORD = re.compile(rb'(?m)^REDIS_PASSWORD="(.*)"$')
_ESCAPED = re.compile(rb"\\(.)")
BROKERS = {b"amqp": "rabbitmq"}


def broker_of(environment: bytes) -> str:
    """Return what an environment has as `site_broker`: redis, rabbitmq, or how the address of another one begins."""
    told = BROKER_URL.search(environment)
    return BROKERS.get(told[1], told[1].decode()) if told else "redis"


class Process:
    """One process of the site on this host.

    Args:
        systemd: systemctl.
        name: its name, that of its alias, such as "celery-worker".
        names: those of its site.
    """

    def __init__(self, systemd: Systemd, name: str, names: Names) -> None:
        self._systemd = systemd
        self._names = names
        self.name = name
        self._alias = f"{name}.service"
        self._description = names.descriptions / self._alias

    # How it is described

    def text(self, release: str) -> str:
        """Return the unit in which a release runs it, still without its own name (`@UNIT@`)."""
        described: str = self._description.read_text()
        copies = self._environment_directory("@UNIT@")
        own = ENVIRONMENT_FILE.sub(lambda file: f"EnvironmentFile={copies / Path(file[1]).name}", described)
        return own.replace("@RELEASE@", release)

    def text_of(self, unit: str) -> str:
        """Return what a unit says, as `text` returns it."""
        text: str = (UNIT_DIRECTORY / unit).read_text()
        return text.replace(Path(unit).stem, "@UNIT@")

    def _environment(self) -> dict[str, bytes]:
        """Return the files that a new unit is to have as its environment, by their names.

        As bytes: to read a text is to take every kind of line end in it for a newline.
        """
        paths = [Path(path) for path in ENVIRONMENT_FILE.findall(self._description.read_text())]
        return {path.name: path.read_bytes() for path in paths}

    def environments(self) -> list[bytes]:
        """Return what units that run, or may run again, read as their environment."""
        ended = self._ended()
        return [
            content for unit in self.units() if unit not in ended for content in self._environment_of(unit).values()
        ]

    def broker(self, unit: str) -> str:
        """Return the broker of a unit (`broker_of`), empty where that is not known."""
        contents = b"".join(self._environment_of(unit).values())
        return broker_of(contents) if contents else ""

    @property
    def kind(self) -> Kind:
        """What kind of process it is.

        Raises:
            ProcessError: it does not say so.
        """
        said = KIND.search(self._description.read_text()) if self._description.exists() else None
        if not said or said[1] not in KINDS:
            raise ProcessError(
                f"{self._description} has no Kind= that is one of {', '.join(KINDS)}: run playbooks/deploy.yml"
            )
        return KINDS[said[1]]

    @property
    def timed(self) -> bool:
        """Whether a timer starts it."""
        said = KIND.search(self._description.read_text()) if self._description.exists() else None
        return bool(said and said[1] == TIMER.name)

    @property
    def timer(self) -> str:
        """The name of its timer, where it has one."""
        return f"{self.name}.timer"

    def timer_text(self) -> str:
        """Return the timer that is installed, empty for none."""
        file = UNIT_DIRECTORY / self.timer
        return str(file.read_text()) if file.exists() else ""

    def described_timer(self) -> str:
        """Return the timer as it is described."""
        return str((self._names.descriptions / self.timer).read_text())

    def install_timer(self, text: str) -> None:
        """Let a timer be the one that is installed, or none."""
        if text:
            write_atomically(UNIT_DIRECTORY / self.timer, text.encode())
        else:
            (UNIT_DIRECTORY / self.timer).unlink(missing_ok=True)

    # Which unit is which

    def recorded(self) -> str:
        """Return the unit that has passed every check, empty for none."""
        return str(target_of(UNIT_DIRECTORY / self._alias))

    def candidate(self) -> str:
        """Return the unit of a switch that has not ended, empty for none."""
        return str(target_of(CANDIDATE_DIRECTORY / self._alias))

    def units(self) -> list[str]:
        """Return all its units, of every release, whether they run or not."""
        names = {path.name: UNIT_NAME.fullmatch(path.name) for path in UNIT_DIRECTORY.iterdir()}
        return sorted(name for name, match in names.items() if match and match["process"] == self.name)

    def running(self) -> list[str]:
        """Return the units that run and are not being stopped."""
        return [unit for unit, state in self._systemd.states(self.units()).items() if state in RUNNING]

    def draining(self) -> dict[str, datetime]:
        """Return the units that are being stopped, and since when, the oldest first."""
        states = self._systemd.states(self.units())
        since = {}
        for unit in (unit for unit, state in states.items() if state == "deactivating"):
            shown = self._systemd.properties(unit, "StateChangeTimestamp")["StateChangeTimestamp"]
            since[unit] = parse_timestamp(shown) or datetime.now(UTC)
        return dict(sorted(since.items(), key=lambda item: item[1]))

    def current(self, release: str) -> str:
        """Return the unit that runs this release as it is described now, empty for none.

        Its process must have started after the unit and its environment were written. It may still be
        starting: a run that was killed has left it so.
        """
        text, environment = self.text(release), self._environment()
        # The one that serves, where there are two.
        for unit in sorted(self.units(), key=lambda unit: unit != self.recorded()):
            if self.text_of(unit) != text or self._environment_of(unit) != environment:
                continue
            if self.timed:
                return unit
            shown = self._systemd.properties(unit, "ActiveState", "ExecMainStartTimestamp")
            started = parse_timestamp(shown["ExecMainStartTimestamp"])
            if (
                shown["ActiveState"] in RUNNING
                and started
                and newest_change([UNIT_DIRECTORY / unit, *self._copies(unit)]) <= started
            ):
                return unit
        return ""

    def serves(self, release: str) -> bool:
        """Say whether this release runs it as it is described now, for good, and nothing else does.

        Not while it is starting: so is one that ends again and again.
        """
        unit = self.recorded()
        if self.timed:
            return bool(
                unit
                and self.current(release) == unit
                and self.timer_text() == self.described_timer()
                and self._systemd.state(self.timer) == "active"
            )
        return (
            bool(unit)
            and self.current(release) == unit
            and not self.candidate()
            # Of an interrupted run: nothing else may take tasks or requests.
            and self.running() == [unit]
            and self._systemd.state(unit) != "activating"
        )

    # Changes. None of them is seen by systemd before a daemon-reload.

    def add(self, release: str) -> str:
        """Write the unit in which a release runs this process, as a candidate, and return its name.

        A candidate is not started a second time when it ends, and it has a readiness check.
        """
        return self._add(self.text(release), self._environment(), release, candidate=True)

    def add_again(self, unit: str) -> str:
        """Write another unit like one that cannot be started, for good, and return its name."""
        return self._add(self.text_of(unit), self._environment_of(unit), release_of(unit), candidate=False)

    def _add(self, text: str, environment: dict[str, bytes], release: str, *, candidate: bool) -> str:
        unit = self._free_name(release)
        directory = self._environment_directory(unit)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, mode=0o700)
        for name, content in environment.items():
            write_atomically(directory / name, content, 0o600)
        # Not systemd's own %N: a unit that was loaded by its alias would have that one.
        write_atomically(UNIT_DIRECTORY / unit, text.replace("@UNIT@", Path(unit).stem).encode())
        if candidate:
            drop_in = _candidate_settings(unit)
            drop_in.parent.mkdir(parents=True, exist_ok=True)
            drop_in.write_text(CANDIDATE_SETTINGS.format(nice=max(CANDIDATE, _nice(text))))
        return unit

    def _free_name(self, release: str) -> str:
        number = 1
        while True:
            unit = f"{self.name}-{release}{'' if number == 1 else f'-{number}'}.service"
            if self._systemd.state(unit) in ENDED and unit != self.recorded():
                return unit
            number += 1

    def point(self, unit: str, *, candidate: bool) -> None:
        """Let the alias stand for a unit.

        Args:
            unit: name of the unit.
            candidate: only until the next boot.
        """
        if candidate:
            CANDIDATE_DIRECTORY.mkdir(parents=True, exist_ok=True)
            link_atomically(CANDIDATE_DIRECTORY / self._alias, str(UNIT_DIRECTORY / unit))
            return
        self._wants.parent.mkdir(exist_ok=True)
        link_atomically(self._wants, f"../{self._wants.name}")
        link_atomically(UNIT_DIRECTORY / self._alias, unit)
        self.promote(unit)
        self.withdraw()

    @property
    def _wants(self) -> Path:
        """The link by which the boot knows it."""
        return UNIT_DIRECTORY / f"{self._names.target}.wants" / (self.timer if self.timed else self._alias)

    def leave_to_hand(self) -> bool:
        """Let the boot start it no more, until its alias is pointed again; return whether the boot did."""
        known = self._wants.is_symlink()
        self._wants.unlink(missing_ok=True)
        return known

    def withdraw(self) -> None:
        """Let the alias stand for what is recorded again, if anything is."""
        (CANDIDATE_DIRECTORY / self._alias).unlink(missing_ok=True)

    def promote(self, unit: str) -> None:
        """Make a candidate a unit like any other: it is started again when it ends, and has no readiness check."""
        settings = _candidate_settings(unit)
        if settings.exists():
            self._systemd.renice(unit, _nice((UNIT_DIRECTORY / unit).read_text()))
        settings.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is not there, or has somebody else's drop-in
            settings.parent.rmdir()

    def _ended(self) -> dict[str, str]:
        """Return the units that have ended and that no alias stands for, with their states."""
        named = {self.recorded(), self.candidate()}
        states = self._systemd.states([unit for unit in self.units() if unit not in named])
        return {unit: state for unit, state in states.items() if state in ENDED}

    def forget_ended(self) -> None:
        """Remove units that have ended and that no alias stands for."""
        for unit, state in self._ended().items():
            self.promote(unit)
            if state == "failed":
                # It would be listed as failed for ever, under a name that nobody knows any more.
                self._systemd.call("reset-failed", unit)
            (UNIT_DIRECTORY / unit).unlink()
            shutil.rmtree(self._environment_directory(unit), ignore_errors=True)

    def starters(self) -> list[str]:
        """Return the socket and the timer of its name, where it has one."""
        names = [f"{self.name}.socket", self.timer]
        return [name for name in names if (UNIT_DIRECTORY / name).exists()]

    def forget(self) -> None:
        """Forget how it is described, its alias, its socket and its timer: this host does not run it any more."""
        self.withdraw()
        (self._names.descriptions / self.timer).unlink(missing_ok=True)
        (STAMPS / f"stamp-{self.timer}").unlink(missing_ok=True)
        for path in map(Path, ENVIRONMENT_FILE.findall(self._description.read_text())):
            if path.stem == self.name:  # the others are not its own
                path.unlink(missing_ok=True)
        self._description.unlink(missing_ok=True)
        for name in (self._alias, *self.starters()):
            self._wants.with_name(name).unlink(missing_ok=True)
            (UNIT_DIRECTORY / name).unlink(missing_ok=True)

    # The files of its environment

    def _environment_directory(self, unit: str) -> Path:
        """Return where a unit has its copies of them."""
        return self._names.environments / Path(unit).stem

    def _copies(self, unit: str) -> list[Path]:
        """Return those that a unit reads."""
        directory = self._environment_directory(unit)
        return sorted(directory.iterdir()) if directory.is_dir() else []

    def _environment_of(self, unit: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self._copies(unit)}


def _candidate_settings(unit: str) -> Path:
    return RUNTIME_UNITS / f"{unit}.d" / "candidate.conf"


def _nice(text: str) -> int:
    """Return the nice level that a unit says."""
    said = NICE.search(text)
    return int(said[1]) if said else URGENT


def fact_of(unit: str, name: str) -> str:
    """Return what a unit says of itself to a release, beside its kind; empty for nothing.

    Args:
        unit: name of the unit.
        name: of the fact, such as "Queue".
    """
    file = UNIT_DIRECTORY / unit
    said = re.search(rf"(?m)^{name}=(.*)$", file.read_text().partition("[X-Celeriac]")[2]) if file.exists() else None
    return said[1] if said else ""


def process_of(unit: str) -> str:
    """Return the process in the name of a unit, empty for none."""
    found = UNIT_NAME.fullmatch(unit)
    return found["process"] if found else ""


def release_of(unit: str) -> str:
    """Return the release in the name of a unit, empty for none."""
    found = UNIT_NAME.fullmatch(unit)
    return found["release"] if found else ""


def described(systemd: Systemd, processes: Iterable[str], names: Names) -> list[Process]:
    """Return these processes of a site, in this order."""
    return [Process(systemd, name, names) for name in processes]


def forgotten(systemd: Systemd, processes: Iterable[str], names: Names) -> list[Process]:
    """Return the processes that a site once ran on this host, and that are not among these."""
    wanted, known = set(processes), sorted(names.descriptions.glob("*.service"))
    return [Process(systemd, path.stem, names) for path in known if path.stem not in wanted]


def left_over(systemd: Systemd, processes: Iterable[str], names: Names) -> list[Process]:
    """Return the processes of a site that are not among these and still have units, which drain or have ended."""
    matches = [UNIT_NAME.fullmatch(path.name) for path in UNIT_DIRECTORY.iterdir()]
    # A unit of somebody else's, or of another site, may be called like one of ours.
    found = {match["process"] for match in matches if match and _is_of(match[0], names)}
    return [Process(systemd, name, names) for name in sorted(found - set(processes))]


def _is_of(unit: str, names: Names) -> bool:
    """Say whether a unit is one of a process of a site."""
    file = UNIT_DIRECTORY / unit
    text = file.read_text() if file.exists() else ""
    part_of, kind = PART_OF.search(text), KIND.search(text.partition("[X-Celeriac]")[2])
    return bool(kind and part_of and part_of[1] == names.target)


def environments(systemd: Systemd, names: Names) -> list[bytes]:
    """Return what all units of a site that run, or may run again, read as their environment."""
    return [content for process in left_over(systemd, [], names) for content in process.environments()]


def logins(systemd: Systemd, names: Names) -> list[bytes]:
    """Return what something of a site on this host has as its environment, or may have soon.

    Raises:
        SystemdError: it is not known which units run.
    """
    # What the inventory says is in force as soon as it is written: for the steps of a release, and for the next unit.
    return [*environments(systemd, names), *(file.read_bytes() for file in names.etc.glob("*environment"))]


def hashes_in(environment: bytes) -> set[str]:
    """Return the SHA-256 of the passwords of Redis in an environment file."""
    return {hashlib.sha256(_ESCAPED.sub(rb"\1", value)).hexdigest() for value in _REDIS_PASSWORD.findall(environment)}


def logged_in_as(users: Collection[str], systemd: Systemd, names: Names, elsewhere: Mapping[str, Any]) -> set[str]:
    """Return the users that something of a site has in its environment, or may have soon, on this host or on another.

    Args:
        users: their names, none of which is a part of another word.
        systemd: of the host.
        names: those of the site.
        elsewhere: the `users` of other hosts, and whether these are `complete`; empty where there are no others.

    Raises:
        SystemdError: it is not known which units run.
    """
    if not users:
        return set()
    if not elsewhere.get("complete", True):
        return set(users)
    contents = logins(systemd, names)
    here = {user for user in users if any(user.encode() in content for content in contents)}
    return here | set(users).intersection(elsewhere.get("users", ()))
