"""Measure this repository against the plainest way to do the same, on the same computer in one run.

A measure is a function below "Measures" that is registered under a name for the command line. It
says what to time on our side and on the other; `side_by_side` takes turns, so that whatever else
the computer does meets both. The machines are copies of one bare base image, and gone when the
program ends, however it ends.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.executable).parent

# What the reference gets of this repository: the project, the lock files, and itself.
REFERENCE_FILES = "site requirements.txt bench/reference.sh"


class MeasureError(Exception):
    """Something that was to be timed did not work; the message ends with what it printed."""


@dataclass(frozen=True)
class Run:
    """One timed run.

    Attributes:
        seconds: wall time.
        load: load average of the minute before (processes that run or wait for a CPU or a disk).
        output: what it printed.
    """

    seconds: float
    load: float
    output: str


@dataclass
class Row:
    """The runs of one measure."""

    ours: list[Run] = field(default_factory=list)
    reference: list[Run] = field(default_factory=list)

    def cells(self) -> tuple[str, str, str, str]:
        """Return the medians (seconds), the mean load and the ratio, as text."""
        ours = statistics.median(run.seconds for run in self.ours)
        reference = statistics.median(run.seconds for run in self.reference)
        load = statistics.mean(run.load for run in self.ours + self.reference)
        return f"{ours:.2f}", f"{reference:.2f}", f"{load:.1f}", f"{ours / reference:.2f}"


# ---- Running and timing


def output_of(*command: str | Path, **environment: str) -> str:
    """Run a command in the root of the repository and return what it printed, errors included.

    Raises:
        MeasureError: it failed.
    """
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise MeasureError(f"`{shlex.join(words)}` failed:\n{done.stdout[-4000:].strip()}")
    return done.stdout


def timed(*command: str | Path, **environment: str) -> Run:
    """Run a command and return how long it took."""
    load = os.getloadavg()[0]
    started = time.monotonic()
    output = output_of(*command, **environment)
    return Run(time.monotonic() - started, load, output)


def where_time_went(run: Run) -> str:
    """Return lines that say where the time of a run went; empty if its output does not tell."""
    tasks = run.output.partition("TASKS RECAP")[2]  # of ansible.posix.profile_tasks
    if tasks:
        return "\n".join(line for line in tasks.splitlines() if re.search(r" -+ [\d.]+s$", line))
    # Of reference.sh: the clock, and the phase that begins.
    begun = re.findall(r"(?m)^(\d+\.\d\d) ([a-z]+)$", run.output)
    return "\n".join(
        f"{name:<10}{float(end) - float(begin):7.2f}s" for (begin, name), (end, _) in itertools.pairwise(begun)
    )


def side_by_side(rounds: int, ours: Callable[[], Run], reference: Callable[[], Run]) -> Row:
    """Take turns, `rounds` times each. Who begins alternates: what it fetches is near by then."""
    row = Row()
    turns = [("ours", ours, row.ours), ("reference", reference, row.reference)]
    for number in range(1, rounds + 1):
        for side, measure_once, runs in turns:
            run = measure_once()
            runs.append(run)
            tell(f"  {number}/{rounds} {side:<9} {run.seconds:6.2f} s  (load {run.load:.1f})")
        turns.reverse()
    return row


def tell(line: str) -> None:
    """Show progress; the table alone goes to standard output."""
    print(line, file=sys.stderr, flush=True)


# ---- Machines


@dataclass(frozen=True)
class Host:
    """A machine to measure on, and the inventory that names it."""

    name: str
    address: str
    folder: Path
    lab: Lab

    @property
    def inventory(self) -> Path:
        """The demo's inventory, with secrets of its own."""
        return self.folder / "inventory"

    @property
    def control_path(self) -> Path:
        """Where ssh keeps its open connections: not for the next machine with this address."""
        return self.folder / "ssh"

    def ansible(self, program: str, *arguments: str, **environment: str) -> Run:
        """Time one of Ansible's programs on this machine."""
        if self.lab.profile:
            environment["ANSIBLE_CALLBACKS_ENABLED"] = "ansible.posix.profile_tasks"
            environment["PROFILE_TASKS_TASK_OUTPUT_LIMIT"] = "10"
        environment["ANSIBLE_SSH_CONTROL_PATH_DIR"] = str(self.control_path)
        return timed(PROGRAMS / program, f"-i{self.inventory}", *arguments, **environment)

    def converge(self, **environment: str) -> Run:
        """Time the whole stack."""
        return self.ansible("ansible-playbook", "site.yml", **environment)

    def reference(self) -> Run:
        """Time the hand-written script, with the sending of the project."""
        files = f"git ls-files -z --cached --others --exclude-standard {REFERENCE_FILES}"
        unpack = f"tar -x && exec sh bench/reference.sh {self.address}"
        remote = shlex.join([*self.lab.machine_command, "ssh", "--user", "root", self.name, unpack])
        pipe = f"{files} | tar -c --null --files-from=- | {remote}"
        return timed("sh", "-c", pipe, **self.lab.environment)


class Lab:
    """Makes machines for measures, and removes them.

    Args:
        folder: where they are kept; nobody else's.
        debian: their release, "12" or "13".
        rounds: how often to measure; None leaves it to the measure.
        profile: ask Ansible where the time goes.
    """

    machine_command = ("/usr/bin/env", "python3", "bin/machine")

    def __init__(self, folder: Path, debian: str, rounds: int | None, *, profile: bool) -> None:
        self.folder = folder
        self.debian = debian
        self.rounds = rounds
        self.profile = profile
        self.environment = {"CELERIAC_MACHINES": str(folder / "machines")}
        self._made = 0
        self._converged: Host | None = None

    def machine(self, *words: str) -> str:
        """Run bin/machine and return what it printed."""
        return output_of(*self.machine_command, *words, **self.environment)

    def make(self) -> Host:
        """Return a new bare machine that has finished booting."""
        self._made += 1
        name = f"bench{self._made}"
        self.machine("up", name, "--debian", self.debian)
        host = Host(name, self.machine("address", name).strip(), self.folder / name, self)
        of_the_demo = shutil.ignore_patterns("host_vars", ".secrets")
        shutil.copytree(ROOT / "inventory/demo", host.inventory, ignore=of_the_demo)
        (host.inventory / "host_vars").mkdir()
        (host.inventory / "host_vars/demo.json").write_text(self.machine("inventory", name))
        host.control_path.mkdir(mode=0o700)
        return host

    @contextlib.contextmanager
    def bare(self) -> Iterator[Host]:
        """Lend a new bare machine."""
        host = self.make()
        try:
            yield host
        finally:
            hang_up(host)
            self.machine("down", host.name)

    def converged(self) -> Host:
        """Return a machine with the whole stack, one for all measures; the first waits for it."""
        if not self._converged:
            tell("  making a machine with the whole stack")
            host = self.make()
            host.converge()
            self._converged = host
        return self._converged

    def close(self) -> None:
        """Remove everything, also what an interrupted measure has left half-made."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self._converged:
            hang_up(self._converged)
        if self._made:
            self.machine("down", "--all")
        shutil.rmtree(self.folder)


def hang_up(host: Host) -> None:
    """End the connections that ssh keeps open for the next run."""
    for socket in host.control_path.iterdir():
        command = ["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "-"]
        subprocess.run(command, capture_output=True, check=False)


# ---- Measures

MEASURES: dict[str, Callable[[Lab], Row]] = {}


def measure(name: str) -> Callable[[Callable[[Lab], Row]], Callable[[Lab], Row]]:
    """Register a measure; the first line of its docstring is its line in --help."""

    def register(function: Callable[[Lab], Row]) -> Callable[[Lab], Row]:
        MEASURES[name] = function
        return function

    return register


@measure("converge")
def converge(lab: Lab) -> Row:
    """site.yml on a bare machine, against bench/reference.sh on one like it."""

    def ours() -> Run:
        with lab.bare() as host:
            return host.converge()

    def reference() -> Run:
        with lab.bare() as host:
            return host.reference()

    return side_by_side(lab.rounds or 3, ours, reference)


@measure("noop")
def noop(lab: Lab) -> Row:
    """site.yml where nothing is left to do, against `ansible -m ping`."""
    return against_ping(lab)


@measure("noop-linear")
def noop_linear(lab: Lab) -> Row:
    """The same without Mitogen, on both sides."""
    return against_ping(lab, ANSIBLE_STRATEGY="linear")


def against_ping(lab: Lab, **environment: str) -> Row:
    """Compare a run that changes nothing with the least that Ansible can do."""
    host = lab.converged()

    def ours() -> Run:
        run = host.converge(**environment)
        if " changed=0 " not in run.output:
            tell("  this run did change something: the next figure is no no-op's")
        return run

    def reference() -> Run:
        return host.ansible("ansible", "all", "--module-name=ping", **environment)

    return side_by_side(lab.rounds or 5, ours, reference)


# ---- Command line


def command_line() -> argparse.Namespace:
    """Read the arguments."""
    lines = [f"  {name:<12} {(run.__doc__ or '').splitlines()[0]}" for name, run in MEASURES.items()]
    parser = argparse.ArgumentParser(
        prog="bin/bench",
        description="Measure, side by side in one run, and print one row a measure: its name,\n"
        "our median and the reference's in seconds, the computer's mean load, the ratio.",
        epilog="\n".join(["measures:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="measures; without any, all of them")
    add("--debian", choices=["12", "13"], default="13", help="of the machines; default 13")
    add("--rounds", type=int, metavar="N", help="runs of each side; default 3, of noop 5")
    add("--profile", action="store_true", help="also print where the time of the last runs went")
    return parser.parse_args()


def show(rows: dict[str, Row], *, profile: bool) -> None:
    """Print the table, and where the time of the last runs went."""
    print(f"{'measure':<12} {'ours (s)':>10} {'reference (s)':>14} {'load':>6} {'ratio':>7}")
    for name, row in rows.items():
        ours, reference, load, ratio = row.cells()
        print(f"{name:<12} {ours:>10} {reference:>14} {load:>6} {ratio:>7}")
    if profile:
        for name, row in rows.items():
            for side, runs in (("ours", row.ours), ("reference", row.reference)):
                if where := where_time_went(runs[-1]):
                    print(f"\n{name}, {side}, {runs[-1].seconds:.2f} s:\n{where}")


def end(number: int, _frame: FrameType | None) -> None:
    """Leave through every `finally` when somebody ends the program."""
    sys.exit(128 + number)


def main() -> int:
    """Do what the command line says and return the exit code."""
    arguments = command_line()
    for name in arguments.names:
        if name not in MEASURES:
            tell(f"bin/bench: there is no measure {name}, only {', '.join(MEASURES)}.")
            return 2
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    # On a disk: /tmp may be memory, and a machine is a gigabyte.
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))
    lab = Lab(folder, arguments.debian, arguments.rounds, profile=arguments.profile)
    rows: dict[str, Row] = {}
    code = 0
    try:
        with contextlib.closing(lab):
            for name in dict.fromkeys(arguments.names or MEASURES):
                tell(name)
                rows[name] = MEASURES[name](lab)
    except MeasureError as error:
        tell(f"bin/bench: {error}")
        code = 1
    except KeyboardInterrupt:
        code = 130
    if rows:
        show(rows, profile=arguments.profile)
    return code


if __name__ == "__main__":
    sys.exit(main())
