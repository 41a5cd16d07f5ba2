"""A site on several machines: how they are made, lost and brought back."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from stack.lab import CHOICES, MACHINE, Site
from stack.machine import Machine
from stack.playbook import Run
from stack.releases import Workshop
from testkit.waiting import eventually

# What a page writes would be on its host alone.
WITHOUT_FOLDERS = {"site_data_folders": [], "site_media_url": "", "site_private_folders": []}


class Spread(Site):
    """The site; where one machine is asked, it is the first of those that serve pages.

    Args:
        machines: by their names.
        workshop: makes the releases.
        folder: for logs.
    """

    GROUPS: Mapping[str, Collection[str]]

    def __init__(self, machines: dict[str, Machine], workshop: Workshop, folder: Path) -> None:
        super().__init__(machines[next(iter(self.GROUPS["web"]))], workshop, folder)
        self.machines = machines
        self.lost: set[str] = set()

    def converge_again(self, **choices: object) -> Run:
        """Run the whole playbook with the release that serves."""
        words = ("--extra-vars", json.dumps(choices)) if choices else ()
        return self.start("site.yml", *self._known[self.current()].arguments, *words).wait()

    def executed_all(self, tasks: set[str], seconds: float) -> dict[str, int]:
        """Wait until each of these tasks was executed, and return how often."""
        try:
            eventually(lambda: not tasks - self.executed(tasks).keys(), seconds, pause=1)
        except AssertionError as error:
            missing = sorted(tasks - self.executed(tasks).keys())
            raise AssertionError(
                f"{len(missing)} tasks of {len(tasks)} are missing: {self.remains_of(missing)}"
            ) from error
        return dict(self.executed(tasks))

    def remains_of(self, tasks: list[str]) -> str:
        """Return what the hosts that are there have of tasks that are missing."""
        asked = "journalctl --quiet --output=short-iso-precise --unit='celery-worker*' --grep=%s | tail --lines=12"
        found = [
            f"{name}: {machine.root.run(asked, task).stdout}"
            for task in tasks[:3]
            for name, machine in self.machines.items()
            if name not in self.lost
        ]
        return f"{tasks[:3]}\n" + "\n".join(found)

    def lose(self, *names: str) -> None:
        """Lose hosts as they are lost in life: nobody hears of it."""
        self.lost |= {*names}
        for command in ("unplug", "kill"):
            for name in names:
                subprocess.run([MACHINE, command, name], check=True)

    def boot(self, *names: str) -> None:
        """Give hosts their power back."""
        subprocess.run([MACHINE, "up", *names], check=True)
        self.lost -= {*names}

    def make_anew(self, name: str) -> None:
        """Give a lost host another disk, with nothing but Debian on it."""
        for command in ("wipe", "up"):
            subprocess.run([MACHINE, command, name], check=True)
        self.lost.discard(name)

    def unplug(self, name: str) -> None:
        """Pull the cable of a host."""
        self.lost.add(name)
        subprocess.run([MACHINE, "unplug", name], check=True)

    def plug(self, name: str) -> None:
        """Put it back."""
        subprocess.run([MACHINE, "plug", name], check=True)
        self.lost.discard(name)


S = TypeVar("S", bound=Spread)


@contextmanager
def deployed(kind: type[S], folder: Path, **choices: object) -> Iterator[S]:
    """Deploy a site on machines of its own, with a first release and a schedule of one second.

    Args:
        kind: its class, which says who is in which group.
        folder: for the copies of the project, the inventory and logs.
        choices: what the inventory chooses beside what all of these do.
    """
    hosts = list(dict.fromkeys(name for names in kind.GROUPS.values() for name in names))
    subprocess.run([MACHINE, "up", *hosts, "--debian", os.environ.get("CELERIAC_DEBIAN", "13")], check=True)
    try:
        found = {name: json.loads(subprocess.check_output([MACHINE, "inventory", name])) for name in hosts}
        children: dict[str, object] = {
            group: {"hosts": {name: {} for name in names}} for group, names in kind.GROUPS.items()
        }
        inventory = folder / f"{kind.__name__.lower()}.json"
        everything = {"hosts": found, "vars": {**CHOICES, **WITHOUT_FOLDERS, **choices}, "children": children}
        inventory.write_text(json.dumps({"all": everything}))
        machines = {name: Machine(name, inventory, folder) for name in hosts}
        site = kind(machines, Workshop(folder, probe=True), folder)
        (folder / f"converge-{kind.__name__.lower()}.txt").write_text(site.converge().output)
        yield site
    finally:
        if not os.environ.get("CELERIAC_UPGRADE_KEEP"):
            subprocess.run([MACHINE, "down", *hosts], check=True)
