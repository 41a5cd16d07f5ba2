"""The kinds of processes, and what a release does with each: it asks a process for its kind, never for its name.

`playbooks/group_vars/all/facts.yml` says which process is of which kind, and its unit says so on the host
(`Kind=`). A host may run several of one kind; each of them is started, checked, replaced and stopped.

========  =======  =====================  =================================================================
kind      started  its old one            what it is
========  =======  =====================  =================================================================
web       second   stops in `retire`      answers requests, at the socket of the site
worker    first    stops in `drain`       runs tasks, under the name of its unit (`--hostname=@UNIT@@%%h`)
beat      first    stops in `retire`      sends periodic tasks, and says its last tick to systemd
monitor   last     stops before it        shows tasks and workers: two would want the same file of what they know
command   last     stops before it        a command of the project that runs for ever: is it there some seconds later?
overlap…  first    stops in `retire`      the same, of which two may run at the same time (`overlapping-command`)
timer     never    ends by itself         a command that runs at times; its timer is changed when all is well
========  =======  =====================  =================================================================

First are those that nobody sees, so that a web process accepts only beside a worker that works. Last are those that
cannot overlap: they take the place of the old one in `retire`, when all others are switched in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What a release does with the processes of a kind. Checks are methods of `site_checks.Checks`.

    Attributes:
        name: as `Kind=` of a unit has it.
        wave: when it is started beside the old ones, the lowest number first; None for one that cannot overlap.
        drains: whether an old one takes nothing new and ends what it runs, while the new one serves.
        readiness: checks while the old ones still serve.
        through: the kind through which it is checked: where the host has none, it is not asked.
        health: checks when the old ones are gone.
        outside: checks of `site_health`, the way that people go.
        pauses: whether it stops where a maintenance pauses the processes: what changes data when nobody asks.
        timed: whether a timer of its name starts it, and a release does not.
    """

    name: str
    wave: int | None = None
    drains: bool = False
    readiness: tuple[str, ...] = ()
    through: str = ""
    health: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    pauses: bool = False
    timed: bool = False

    @property
    def overlaps(self) -> bool:
        """Whether the processes of two releases may run at the same time."""
        return self.wave is not None


WEB = Kind(
    "web",
    wave=2,
    readiness=("page",),
    health=("page_alone", "migrations"),
    # The workers may be on other hosts.
    outside=("page", "static_file", "migrations", "worker"),
)
WORKER = Kind("worker", wave=1, drains=True, readiness=("worker",), through="web", pauses=True)
BEAT = Kind("beat", wave=1, health=("beat",), outside=("beat",), pauses=True)
MONITOR = Kind("monitor", health=("monitor",), outside=("monitor", "monitor_closed"))
COMMAND = Kind("command", health=("command",), outside=("command",), pauses=True)
OVERLAPPING_COMMAND = Kind(
    "overlapping-command",
    wave=1,
    readiness=("overlapping_command",),
    health=("command",),
    outside=("command",),
    pauses=True,
)
TIMER = Kind("timer", outside=("timer",), pauses=True, timed=True)

# In the order in which they are asked: whether a worker works is asked through the web processes.
KINDS = {kind.name: kind for kind in (WEB, WORKER, BEAT, MONITOR, OVERLAPPING_COMMAND, COMMAND, TIMER)}


def readiness(here: Collection[Kind]) -> Iterator[str]:
    """Yield the checks of the kinds that a host has, while the old ones still serve."""
    for kind in KINDS.values():
        if kind in here and (not kind.through or KINDS[kind.through] in here):
            yield from kind.readiness


def health(here: Collection[Kind]) -> Iterator[str]:
    """Yield the checks of the kinds that a host has, when the old ones are gone."""
    for kind in KINDS.values():
        yield from kind.health if kind in here else ()


def outside(here: Collection[Kind]) -> Iterator[str]:
    """Yield the checks of the kinds that a host has, the way that people go."""
    for kind in KINDS.values():
        yield from kind.outside if kind in here else ()
