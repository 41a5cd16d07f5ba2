"""What it costs to be in production: a certificate of an authority, and backups, in a first run and in each deploy."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from stack.authority import DIRECTORY, Authority
from stack.machine import Machine

from bench.machines import Host, Lab
from bench.timing import Run, tell

DOMAIN = {"site_domain": "www.bench.test"}
BACKUPS = {"backup_repository": "local"}
ACME = {"nginx_tls": "acme", "nginx_acme_directory": DIRECTORY, "nginx_acme_email": "admin@bench.test"}
# As the inventory of the demo, which all hosts have, calls its host.
NAME = "demo"


class Production:
    """Both sides: a bare machine each, with an authority on it before anything is timed.

    Where no figures are wanted it is one machine that is converged already, with a deploy for each side.

    Args:
        lab: makes the machines.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._deploys: dict[str, list[float]] = {"on": [], "off": []}

    def on(self) -> Run:
        """Time the whole stack with all of it; and a deploy behind that."""
        return self._side("on", {**BACKUPS, **ACME})

    def off(self) -> Run:
        """Time the whole stack without; and a deploy behind that."""
        return self._side("off", {})

    def _side(self, side: str, choices: dict[str, str]) -> Run:
        words, make = ("--extra-vars", json.dumps(DOMAIN | choices)), self._lab.workshop.make
        if self._lab.is_quick:
            run = self._lab.deployed.deploy(make())
            self._deploys[side].append(run.seconds)
            return run
        with self._machine(side) as host:
            run = host.converge(*make().arguments, *words)
            # The first release had none before it to take over from.
            host.deploy(make(), *words)
            deploy = host.deploy(make(), *words)
        self._deploys[side].append(deploy.seconds)
        tell(f"    and a deploy {deploy.seconds:6.2f} s  (load {deploy.load:.1f})")
        return run

    @contextmanager
    def _machine(self, side: str) -> Iterator[Host]:
        with self._lab.bare(side) as host:
            host.shell("apt-get update --quiet=2")
            Authority(Machine(NAME, host.inventory, host.control_path)).start()
            yield host

    def notes(self) -> list[str]:
        """Return what became of the deploys."""
        on, off = (statistics.median(seconds) for seconds in self._deploys.values())
        return [f"a deploy: {on:.2f} s, against {off:.2f} s: {on / off:.2f}"]
