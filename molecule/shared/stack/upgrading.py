"""Fixtures of `upgrade`, `faults` and `production`: one converged machine each, which all tests of the suite share.

The `conftest.py` of a suite has the fixture `suite`: its name, and that of its machine.

`CELERIAC_DEBIAN` chooses its Debian, `CELERIAC_BROKER` its broker; `CELERIAC_FULL=1` lets every test take the time that
its figures need.
With a folder in `CELERIAC_UPGRADE_KEEP` the machine stays, for the next run with the same folder.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from stack.lab import CHOICES, MACHINE, Site
from stack.load import PEOPLE, Load
from stack.machine import Machine
from stack.releases import Release, Workshop

KEEP = os.environ.get("CELERIAC_UPGRADE_KEEP", "")
GROUPS = ("web", "workers", "beat", "monitor", "broker", "database")


def pytest_report_header() -> str:
    """Say how long the tests may take."""
    return f"deploys: {'full' if is_full() else 'quick'}, Debian {os.environ.get('CELERIAC_DEBIAN', '13')}"


FIGURES: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures, also of tests that have passed."""
    terminalreporter.section("Figures")
    terminalreporter.write("".join(f"{line}\n" for line in FIGURES))


def is_full() -> bool:
    """Say whether the figures are wanted, and not only the properties."""
    return bool(os.environ.get("CELERIAC_FULL"))


# For a test of what another one proves in another way, or which takes more than it finds.
only_in_full = pytest.mark.skipif(not is_full(), reason="only in a full run")


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether the figures are wanted, and not only the properties."""
    return is_full()


@pytest.fixture(scope="session")
def figures() -> list[str]:
    """The lines that the run ends with."""
    return FIGURES


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder for the copies of the project, the inventory, the logs; SSH's sockets need a short name."""
    if KEEP:
        Path(KEEP).mkdir(exist_ok=True)
        yield Path(KEEP)
        return
    with TemporaryDirectory(prefix="upgrade-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def choices() -> dict[str, object]:
    """What the inventory chooses."""
    broker = os.environ.get("CELERIAC_BROKER")
    return {**CHOICES, **({"site_broker": broker} if broker else {})}


@pytest.fixture(scope="session")
def site(folder: Path, suite: str, choices: dict[str, object]) -> Iterator[Site]:
    """The deployed site, with the first release and a schedule of one second."""
    debian = os.environ.get("CELERIAC_DEBIAN", "13")
    subprocess.run([MACHINE, "up", suite, "--debian", debian], check=True)
    try:
        variables = json.loads(subprocess.check_output([MACHINE, "inventory", suite]))
        children: dict[str, object] = {group: {"hosts": {suite: {}}} for group in GROUPS}
        inventory = folder / "hosts.json"
        inventory.write_text(json.dumps({"all": {"hosts": {suite: variables}, "vars": choices, "children": children}}))
        site = Site(Machine(suite, inventory, folder), Workshop(folder, probe=True), folder)
        (folder / "converge.txt").write_text(site.converge().output)
        yield site
    finally:
        if not KEEP:
            subprocess.run([MACHINE, "down", suite], check=True)


@pytest.fixture
def serving(site: Site) -> Release:
    """The release that serves; a good one is deployed where the test before has left something else."""
    return site.healthy()


@pytest.fixture(scope="module")
def light_load(site: Site, folder: Path, request: pytest.FixtureRequest) -> Iterator[Load]:
    """A load during all tests of a module that leaves the processors to them."""
    site.healthy()
    with Load(site.plan(requests=PEOPLE, tasks=2, seconds=3600), folder / f"{request.module.__name__}.txt") as load:
        yield load
