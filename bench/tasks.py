"""What a task costs in our worker and in plain Celery's: the same project, the same settings, Redis, no results.

======== ===============================================================================
ours     ``celery -A celeriac.app worker``
plain    ``celery -A demo worker``, which cannot even import celeriac, as durable: late
         acknowledgement, a prefetch of one for each process
defaults the same with what Celery does unless it is told: it acknowledges a task when
         that begins, and fetches four for each process
======== ===============================================================================
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping

from bench.cost import APP
from bench.project import QUEUE, WITHOUT_RUNTIME, Spent, Team, at_work, site
from bench.sizes import Sizes
from bench.timing import Row, Run, tell

OURS, PLAIN, DEFAULTS, JOURNAL = "ours", "plain", "defaults", "journal"
SIDES = (OURS, PLAIN, DEFAULTS)
EARLY = {
    "CELERY_TASK_ACKS_LATE": False,
    "CELERY_TASK_REJECT_ON_WORKER_LOST": False,
    "CELERY_WORKER_PREFETCH_MULTIPLIER": 4,
}

# Lists that a queue has, one for each priority. The row is of the busy worker of a deployed site: alone, with ten.
LISTS = (1, 10)
TYPICAL = (1, 10)

QUEUES = [QUEUE, *(f"queue-{number}" for number in range(2, 11))]

RATE = "tasks a second"
LATENCY = "ms from publication to start"
CPU = "µs of CPU a task"
COMMANDS = "commands a task"
TRIPS = "round trips a task"


class Figures:
    """What was measured, by subject, what of it, and side; a figure of each turn."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, dict[str, list[float]]]] = {}

    def add(self, subject: str, what: str, side: str, figure: float) -> None:
        """Keep one."""
        self._found.setdefault(subject, {}).setdefault(what, {}).setdefault(side, []).append(figure)

    def latest(self, subject: str, what: str, turns: int) -> str:
        """Return the median of the last turns, of each side."""
        found = self._found[subject][what]
        return ", ".join(f"{side} {_number(statistics.median(found[side][-turns:]))}" for side in SIDES)

    def table(self) -> list[str]:
        """Return lines with the medians; the ratio of ours to plain is the median of the turns' ratios."""
        lines = [f"{'':<46}" + "".join(f"{side:>10}" for side in (*SIDES, "ratio"))]
        for subject, rows in self._found.items():
            lines.append(subject)
            for what, figures in rows.items():
                medians = {side: statistics.median(found) for side, found in figures.items()}
                cells = [_number(medians[side]) if side in medians else "" for side in SIDES]
                pairs = zip(figures[OURS], figures[PLAIN], strict=True)
                cells.append(f"{statistics.median(ours / plain for ours, plain in pairs):.2f}")
                lines.append(f"  {what:<44}" + "".join(f"{cell:>10}" for cell in cells))
        return lines


class Comparison:
    """One run of the measure.

    Attributes:
        sizes: how much of each.
        row: of the typical worker.
        figures: all others.
        commands: what Redis ran in the last turn, as text, by situation and side.
    """

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.row = Row(unit="/s", paired=True)
        self.figures = Figures()
        self.commands: dict[str, str] = {}
        self._turns: Counter[str] = Counter()

    def situation(self, environment: Mapping[str, str], workers: int, lists: int, rounds: int) -> None:
        """Compare the sides with so many workers on a queue with so many lists."""
        where = f"{_many(workers, 'worker')}, {_many(lists, 'list')}"
        typical = (workers, lists) == TYPICAL
        with _teams(environment, workers, lists, journal=typical) as teams:
            for number in range(1, rounds + 1):
                for _ in range(self.sizes.turns):
                    self._busy(teams, where, typical=typical)
                if typical:
                    self._long(teams)
                    self._journal(teams, where)
                if lists == max(LISTS):
                    self._idle(teams)
                told = self.figures.latest(RATE, where, self.sizes.turns)
                tell(f"  {number}/{rounds} {where}: {told} tasks/s  (load {os.getloadavg()[0]:.1f})")

    def _in_turn(self, what: str, teams: Mapping[str, Team], *sides: str) -> list[tuple[str, Team]]:
        """Return some sides in the order of this turn. Who begins alternates, in each thing that is measured."""
        self._turns[what] += 1
        turn = [(side, teams[side]) for side in sides]
        return turn if self._turns[what] % 2 else turn[::-1]

    def _busy(self, teams: Mapping[str, Team], where: str, *, typical: bool) -> None:
        """Let each side empty a full queue."""
        for side, team in self._in_turn("busy", teams, *SIDES):
            load = os.getloadavg()[0]
            team.fill(self.sizes.tasks)
            spent = team.work_off()
            self.figures.add(RATE, where, side, self.sizes.tasks / spent.seconds)
            self.figures.add(CPU, f"{where}: workers' main", side, spent.main * 1e6 / self.sizes.tasks)
            self.figures.add(CPU, f"{where}: Redis", side, spent.redis * 1e6 / self.sizes.tasks)
            self._asked(f"{where}, busy", side, spent, self.sizes.tasks)
            if typical and side != DEFAULTS:
                runs = self.row.ours if side == OURS else self.row.reference
                runs.append(Run(spent.seconds / self.sizes.tasks, load, ""))

    def _long(self, teams: Mapping[str, Team]) -> None:
        """Let ours and plain Celery empty queues of long messages."""
        for size, (count, length) in self.sizes.long.items():
            for side, team in self._in_turn(size, teams, OURS, PLAIN):
                team.fill(count, "x" * length)
                self.figures.add(RATE, f"messages of {size}", side, count / team.work_off().seconds)

    def _journal(self, teams: Mapping[str, Team], where: str) -> None:
        """Let ours with the journal and plain Celery without empty a queue, whose tasks are in the journal."""
        for side, team in self._in_turn("journal", teams, JOURNAL, PLAIN):
            if side == JOURNAL:
                team.enqueue(self.sizes.noted)
            else:
                team.fill(self.sizes.noted)
            rate = self.sizes.noted / team.work_off().seconds
            self.figures.add(RATE, f"{where}, ours with the journal", OURS if side == JOURNAL else PLAIN, rate)

    def _idle(self, teams: Mapping[str, Team]) -> None:
        """Send tasks one by one to idle workers of ours and of plain Celery."""
        for side, team in self._in_turn("idle", teams, OURS, PLAIN):
            queues = QUEUES if len(team.workers) > 1 else [QUEUE]
            where = f"{_many(len(team.workers), 'worker')}, {_many(len(queues), 'queue')}"
            team.consume(*queues[1:])
            time.sleep(self.sizes.settle_seconds)
            lags, spent = team.lags(self.sizes.lags, queues)
            hundredths = statistics.quantiles(lags, n=100, method="inclusive")
            self.figures.add(LATENCY, f"{where}: p50", side, hundredths[49] * 1000)
            self.figures.add(LATENCY, f"{where}: p99", side, hundredths[98] * 1000)
            self.figures.add(CPU, f"{where}, idle: workers' main", side, spent.main * 1e6 / self.sizes.lags)
            self.figures.add(CPU, f"{where}, idle: Redis", side, spent.redis * 1e6 / self.sizes.lags)
            self._asked(f"{where}, idle", side, spent, self.sizes.lags)

    def _asked(self, where: str, side: str, spent: Spent, tasks: int) -> None:
        """Keep what Redis was asked."""
        self.figures.add(COMMANDS, where, side, spent.commands.total() / tasks)
        self.figures.add(TRIPS, where, side, spent.reads / tasks)
        if side != DEFAULTS:
            counts = [(name, count / tasks) for name, count in sorted(spent.commands.items())]
            frequent = [f"{name} {count:.2f}" for name, count in counts if count > 0.05]
            self.commands[f"{where}, {side}"] = ", ".join(frequent)


def tasks(rounds: int, sizes: Sizes) -> Row:
    """Take turns; return the tasks a second of the typical worker, and in the notes the rest."""
    found = Comparison(sizes)
    with site() as environment:
        for workers, lists in itertools.product(sizes.workers, LISTS):
            found.situation(environment, workers, lists, rounds)
    ratios = ", ".join(f"{ratio:.2f}" for ratio in sorted(found.row.ratios()))
    found.row.notes += [f"each turn: {ratios}", *found.figures.table(), "", "commands a task, those in scripts too:"]
    found.row.notes += [
        f"{where}: {told}" for where, told in sorted(found.commands.items()) if f"{max(LISTS)} " in where
    ]
    return found.row


@contextlib.contextmanager
def _teams(environment: Mapping[str, str], workers: int, lists: int, *, journal: bool) -> Iterator[dict[str, Team]]:
    """Run the sides; one more of ours, with the journal, if asked."""
    # What the project's settings have, and the lists.
    options = {"visibility_timeout": 3600, "socket_timeout": 10, "priority_steps": list(range(lists))}
    late = {"CELERY_BROKER_TRANSPORT_OPTIONS": options}
    ours = {**environment, "MORE_SETTINGS": json.dumps(late)}
    plain = {**ours, **WITHOUT_RUNTIME}
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        teams = {OURS: enter(at_work(ours, workers=workers)), PLAIN: enter(at_work(plain, "demo", workers))}
        teams[DEFAULTS] = enter(at_work({**plain, "MORE_SETTINGS": json.dumps({**late, **EARLY})}, "demo", workers))
        if journal:
            teams[JOURNAL] = enter(at_work({**ours, "MORE_APPS": APP}, workers=workers))
        yield teams


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


def _number(figure: float) -> str:
    return f"{figure:.0f}" if figure >= 100 else f"{figure:.2f}"
