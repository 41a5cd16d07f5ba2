"""Run commands, time them, and compare two sides."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.executable).parent
# How a run's seconds are shown in each unit, and with how many digits. A run of a rate is one of what there is so many
# of in a second: more is better there.
UNITS: dict[str, tuple[Callable[[float], float], int]] = {
    "s": (lambda seconds: seconds, 2),
    "ms": (lambda seconds: seconds * 1000, 2),
    "/s": (lambda seconds: 1 / seconds, 0),
}


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
    """The runs of one measure.

    Attributes:
        ours: one a round.
        reference: one a round.
        unit: in which the table shows them, one of `UNITS`.
        paired: the two sides of a round belong together: the ratio is the median of the rounds' ratios,
            and not the ratio of the medians.
        notes: lines to print below the table.
    """

    ours: list[Run] = field(default_factory=list)
    reference: list[Run] = field(default_factory=list)
    unit: str = "s"
    paired: bool = False
    notes: list[str] = field(default_factory=list)

    def ratios(self) -> list[float]:
        """Return ours over the reference's in the row's unit, of each round."""
        convert, _ = UNITS[self.unit]
        pairs = zip(self.ours, self.reference, strict=True)
        return [convert(ours.seconds) / convert(other.seconds) for ours, other in pairs]

    def cells(self) -> tuple[str, str, str, str, str]:
        """Return the medians, their unit, the mean load and the ratio, as text."""
        convert, digits = UNITS[self.unit]
        ours = convert(statistics.median(run.seconds for run in self.ours))
        reference = convert(statistics.median(run.seconds for run in self.reference))
        load = statistics.mean(run.load for run in self.ours + self.reference)
        ratio = statistics.median(self.ratios()) if self.paired else ours / reference
        return f"{ours:.{digits}f}", f"{reference:.{digits}f}", self.unit, f"{load:.1f}", f"{ratio:.2f}"


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
        lines = [line for line in tasks.splitlines() if re.search(r" -+ [\d.]+s$", line)]
        # The steps of a transaction, which is one task.
        for steps in re.findall(r'"seconds": (\{[^{}]*\})', run.output):
            lines += [f"  {name:<10}{seconds:7.2f}s" for name, seconds in json.loads(steps).items()]
        return "\n".join(lines)
    # Of the scripts beside this file: the clock, and the phase that begins.
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
