"""Fixtures of the tests that look at a deployed stack. Molecule starts them, and says where its inventory is."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from stack import watch
from stack.machine import Machine
from stack.playbook import Run, run_site
from stack.web import Website
from testinfra.host import Host

SCENARIO = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
MARKERS = {
    "first": "starts something that a later test looks at, so it runs before the others",
    "last": "looks at what an earlier test started, so it runs after the others",
    "debian(12 or 13)": "only there, but with CELERIAC_FULL=1: a whole run of Ansible, mostly the control side's work; "
    "or what another suite proves, too",
    "once": "not run a second time after the reboot: it takes long, and the reboot changes nothing for it",
}
ORDER = {"first": 0, "last": 2}


class Secrets(dict[str, str]):
    """Secrets by their names. A failed test shows its arguments: of these, the names."""

    def __repr__(self) -> str:
        """Return the names."""
        return f"<{', '.join(self)}>"


def pytest_configure(config: pytest.Config) -> None:
    """Describe the markers."""
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Bring the tests into their order, and leave out what need not be run: again, or on this Debian."""
    items.sort(
        key=lambda item: min((ORDER[mark.name] for mark in item.iter_markers() if mark.name in ORDER), default=1)
    )
    left_out = [item for item in items if not to_be_run(item)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def to_be_run(item: pytest.Item) -> bool:
    """Return whether a test is one for this Debian, and for now."""
    where = item.get_closest_marker("debian")
    here = (
        where is None
        or str(where.args[0]) == os.environ.get("CELERIAC_DEBIAN", "13")
        or bool(os.environ.get("CELERIAC_FULL"))
    )
    again = not (SCENARIO / "rebooted").exists() or not item.get_closest_marker("once")
    return here and again


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Iterator[None]:
    """Add the journal of the units that a test is about to its failure; UNITS in its module names them."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's Result
    units = getattr(item.module, "UNITS", ())
    machine = item.funcargs.get("machine")
    if report.failed and units and isinstance(machine, Machine):
        report.sections.append(("What the units say", machine.last_words(units)))


@pytest.fixture(scope="session")
def inventory() -> Path:
    """The folder of the inventory."""
    return SCENARIO / "inventory"


@pytest.fixture(scope="session")
def choices() -> dict[str, object]:
    """What the inventory chooses."""
    described = yaml.safe_load((SCENARIO / "molecule.yml").read_text())
    found: dict[str, object] = described["provisioner"]["inventory"]["group_vars"]["all"]
    return {**found, "site_environment": json.loads((SCENARIO / "environment.json").read_text())}


@pytest.fixture(scope="session")
def machine(inventory: Path) -> Iterator[Machine]:
    """The host of the scenario."""
    described = yaml.safe_load((SCENARIO / "molecule.yml").read_text())
    with TemporaryDirectory() as sockets:
        yield Machine(described["platforms"][0]["name"], inventory, Path(sockets))


@pytest.fixture(scope="session")
def host(machine: Machine) -> Host:
    """The host as root."""
    return machine.root


@pytest.fixture(scope="session")
def admin(machine: Machine) -> Host:
    """The host as the person who may use sudo."""
    return machine.login(sudo=False)


@pytest.fixture(scope="session")
def secrets(inventory: Path, choices: dict[str, object]) -> dict[str, str]:
    """Every secret of the inventory by its name."""
    # The lookup adds a salt on the line of a password that was ever hashed.
    made = {file.name: file.read_text().split()[0] for file in (inventory / ".secrets").iterdir()}
    prefixes = re.compile("vault_(site_)?")
    own = {prefixes.sub("", name): str(value) for name, value in choices.items() if prefixes.match(name)}
    return Secrets(made | own)


@pytest.fixture(scope="session")
def release(host: Host) -> str:
    """The release that should serve."""
    return Path(host.check_output("readlink /srv/site/current")).name


@pytest.fixture(scope="session")
def stranger(machine: Machine, host: Host, choices: dict[str, object]) -> Website:
    """The browser of somebody without a log-in."""
    certificate = host.check_output("cat /etc/nginx/site.crt")
    return Website(str(choices["site_domain"]), machine.address, certificate)


@pytest.fixture(scope="session")
def site(stranger: Website, secrets: dict[str, str]) -> Website:
    """The browser of a member of staff."""
    browser = Website(stranger.domain, stranger.address, stranger.certificate)
    assert browser.log_in("admin", secrets["admin_password"]).status == 302
    return browser


@pytest.fixture(scope="session")
def ansible(inventory: Path) -> partial[Run]:
    """`ansible-playbook site.yml`; takes more arguments."""
    return partial(run_site, inventory)


@pytest.fixture(scope="session", autouse=True)
def watched_processes(machine: Machine) -> None:
    """From now on, every command line on the host is written down."""
    watch.start(machine)
