"""A converge that is killed, and run again, ends like one that nothing happened to.

One run after the other is killed on one machine, each at a later moment than the one before. With CELERIAC_FULL=1 each
moment has a bare machine of its own, too. Two machines work at a time. None of them reaches an index of packages: their
wheels are fetched once, for all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import pytest
from stack.machine import Machine
from stack.play import RUN_SECONDS, Play
from stack.playbook import REPOSITORY, run_site

MACHINE = REPOSITORY / "bin/machine"
GROUPS = ("web", "workers", "beat", "monitor", "broker", "database")
CHOICES = {"site_domain": "www.site.test", "site_drain_seconds": 30, "site_wheelhouse": ".wheelhouse"}
# A package that the site does not have: to add it makes another lock.
ADDED = "toml"
# The host has no route to the internet but for apt, which has no mirror here.
CUT_OFF = """
set -eu
apt=$(id -u _apt)
ip route add "$(ip -4 route show dev host0 scope link | cut -d' ' -f1)" dev host0 table 100
ip route add unreachable default table 100
ip rule add priority 1000 uidrange "$apt-$apt" lookup main
ip rule add priority 1001 lookup 100
"""
# PyPI's, by its address: without a route there are no names, either.
REACHES_PYPI = "python3 -c 'import socket; socket.create_connection((\"151.101.0.223\", 443), 30)'"


@dataclass(frozen=True)
class Moment:
    """When a run is killed.

    Attributes:
        name: of the log, and where it has a machine of its own, of that and of the test.
        reached: a command that succeeds on the host from this moment on.
        power_cut: the host dies too, not only the computer that runs Ansible.
        pause: seconds between two questions.
    """

    name: str
    reached: str
    power_cut: bool = False
    pause: float = 0.02


# dpkg is at work; the brackets keep the question from finding itself.
DPKG = "grep --quiet --no-messages --null-data -e '[-]-unpack' -e '[-]-configure' /proc/[0-9]*/cmdline"
PSQL = "cd / && runuser -u postgres -- psql -XAtc"
# As a run comes to them.
MOMENTS = [
    Moment("installing-postgresql", f"test -e /usr/share/postgresql-common && {DPKG}", power_cut=True),
    Moment(
        "building-the-virtualenv",
        "ls -d /srv/site/releases/*/venv/lib/python3*/site-packages/celery",
    ),
    # Dozens are still to come then: that is seconds, and a psql is work.
    Moment("migrating", f"{PSQL} 'SELECT 1 FROM django_migrations OFFSET 5 LIMIT 1' site | grep 1", pause=0.2),
    # The release is built, the first of its processes is being started.
    Moment("starting-the-processes", "ls /etc/systemd/system/celery-worker-*.service"),
    Moment("installing-nginx", f"test -e /usr/share/nginx && {DPKG}"),
]
# What a machine goes through, by its name.
ORDEALS = {"one-after-the-other": MOMENTS}
if os.environ.get("CELERIAC_FULL"):
    ORDEALS |= {moment.name: [moment] for moment in MOMENTS}

# Every file with what it is; the name alone where no two machines, or no two runs, have the same content.
STATE = r"""
import hashlib, os, re, stat, sys

LEFT_OUT = re.compile(
    r"/srv/site/cache/|\.pyc$|/__pycache__$"
    # Named after a hash of a certificate that Debian makes on the host.
    r"|^/etc/ssl/certs/\w{8}\.\d .* ssl-cert-snakeoil.pem$"
    r"|^/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$"
    r"|^/etc/(machine-id|hostname|hosts|resolv.conf|\.updated|\.pwd\.lock)$|^/etc/systemd/network/"
)
NAME_ONLY = re.compile(
    r"^/etc/ssh/ssh_host_|^/etc/celeriac/|^/etc/nginx/site\.(crt|pem)$|/release\.json$|/deploy\.lock$|/history\.jsonl$"
    r"|^/etc/ssl/(certs|private)/ssl-cert-snakeoil"
    # When the package was built or its wheel came, and a list of hashes with that of the file that says so.
    r"|/[^/]+\.dist-info/(uv_cache\.json|RECORD)$"
)

def describe(path):
    about = os.lstat(path)
    words = [path, stat.filemode(about.st_mode), str(about.st_uid), str(about.st_gid)]
    if stat.S_ISLNK(about.st_mode):
        words.append(os.readlink(path))
    elif stat.S_ISREG(about.st_mode) and not NAME_ONLY.search(path):
        with open(path, "rb") as file:
            words.append(hashlib.sha256(file.read()).hexdigest())
    return " ".join(words)

for top in sys.argv[1:]:
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = os.path.join(folder, name)
            line = describe(path)
            if not LEFT_OUT.search(path) and not LEFT_OUT.search(line):
                print(line)
"""


def state_of(machine: Machine) -> dict[str, set[str]]:
    """Return what an operator would compare of two hosts."""
    units = "--plain --no-legend --no-pager --type=service,socket,target,timer"
    schema = "runuser -u postgres -- pg_dump --schema-only --create site | grep -v -E '^.(un)?restrict '"
    questions = {
        "packages": "dpkg-query --show --showformat='${Package} ${Version} ${db:Status-Abbrev}\\n'",
        "unit files": "systemctl list-unit-files --no-legend --no-pager",
        # Without what runs once at a boot, or for the log-ins of this test.
        "active units": f"systemctl list-units {units} | awk '{{print $1, $3, $4}}' | grep -v -e exited -e user@",
        "schema": f"cd / && {schema}",
        "migrations": f"{PSQL} 'SELECT app, name FROM django_migrations' site",
        "users": f"{PSQL} 'SELECT username, is_superuser FROM auth_user' site",
    }
    found = {name: set(machine.root.check_output(words).splitlines()) for name, words in questions.items()}
    found["files"] = set(machine.feed(STATE, "python3", "-", "/etc", "/srv/site").splitlines())
    return found


class Lab:
    """Bare machines, and one inventory a machine; all of them have the same secrets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.renewed: dict[str, object] = {}

    def machine(self, name: str) -> Machine:
        """Make a bare machine that reaches no index."""
        subprocess.run([MACHINE, "up", name], check=True)
        variables = json.loads(subprocess.check_output([MACHINE, "inventory", name]))
        children: dict[str, object] = {group: {"hosts": {name: {}}} for group in GROUPS}
        inventory = {"all": {"hosts": {name: variables}, "vars": CHOICES, "children": children}}
        (self.folder / f"{name}.json").write_text(json.dumps(inventory))
        machine = Machine(name, self.folder / f"{name}.json", self.folder)
        machine.feed(CUT_OFF)
        return machine

    def remove(self, name: str) -> None:
        """Remove a machine."""
        subprocess.run([MACHINE, "down", name], check=True)

    def uninterrupted(self, name: str) -> dict[str, set[str]]:
        """Return the state after one run; what is there after a release with a package more is in `renewed`."""
        try:
            machine = self.machine(name)
            state = self.converged(machine)
            self.renewed = self.with_another_lock(machine)
            return state
        finally:
            self.remove(name)

    def with_another_lock(self, machine: Machine) -> dict[str, object]:
        """Deploy with a package more, and return what an operator would look at."""
        before = {*machine.root.check_output("ls /srv/site/wheels").splitlines()}
        run = run_site(machine.inventory, "--extra-vars", json.dumps({"site_requirements": [ADDED]}))
        assert run.status == 0, run.output
        after = {*machine.root.check_output("ls /srv/site/wheels").splitlines()}
        return {
            "wheels": {wheel.partition("-")[0] for wheel in before ^ after},
            "imports": machine.root.run(f"/srv/site/current/venv/bin/python -c 'import {ADDED}'").rc,
            "reaches an index": machine.root.run(REACHES_PYPI).succeeded,
        }

    def interrupted(self, name: str, moments: list[Moment]) -> dict[str, set[str]]:
        """Return the state after runs that were killed, and another."""
        try:
            machine = self.machine(name)
            for moment in moments:
                # It has not come yet: so this run finds its way through what those before have left.
                assert machine.root.run(moment.reached).failed, moment.name
                self.start_and_kill(machine, moment)
                subprocess.run([MACHINE, "up", name], check=True)
                # The connection that ssh keeps open is of the boot before.
                machine = replace(machine, sockets=Path(mkdtemp(dir=self.folder)))
                if moment.power_cut:
                    machine.feed(CUT_OFF)
            return self.converged(machine)
        finally:
            self.remove(name)

    def converged(self, machine: Machine) -> dict[str, set[str]]:
        """Converge a machine, and return its state."""
        run = run_site(machine.inventory)
        assert run.status == 0, run.output
        return state_of(machine)

    def start_and_kill(self, machine: Machine, moment: Moment) -> None:
        """Run the playbook until the moment has come, and kill it with everything that it started here."""
        run = Play("site.yml", machine.inventory, log=self.folder / f"{machine.name}-{moment.name}.log")
        try:
            # Asked on the host itself: some of these moments are short.
            wait = f"until {moment.reached}; do sleep {moment.pause}; done >/dev/null 2>&1"
            while machine.root.run("timeout 10 sh -c %s", wait).failed:
                assert run.running() and time.time() < run.began + RUN_SECONDS, f"never {moment.name}:\n{run.output}"
            assert run.running(), f"the run has ended before:\n{run.output}"
            if moment.power_cut:
                subprocess.run([MACHINE, "kill", machine.name], check=True)
        finally:
            run.kill()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Where the machines are made."""
    with TemporaryDirectory() as folder:
        yield Lab(Path(folder))


@pytest.fixture(scope="module")
def states(lab: Lab) -> Iterator[dict[str, Future[dict[str, set[str]]]]]:
    """The states of all machines, as they become known."""
    with ThreadPoolExecutor(2) as pool:
        futures = {"uninterrupted": pool.submit(lab.uninterrupted, "uninterrupted")}
        futures |= {name: pool.submit(lab.interrupted, name, moments) for name, moments in ORDEALS.items()}
        yield futures
        pool.shutdown(cancel_futures=True)


def test_a_host_that_reaches_no_index_has_its_packages(
    lab: Lab, states: dict[str, Future[dict[str, set[str]]]]
) -> None:
    """Those of the first release, and of one with another lock: of that it gets the wheel that it does not have."""
    states["uninterrupted"].result()

    assert lab.renewed == {"wheels": {ADDED}, "imports": 0, "reaches an index": False}


@pytest.mark.parametrize("ordeal", ORDEALS)
def test_killed_run_is_mended_by_the_next(states: dict[str, Future[dict[str, set[str]]]], ordeal: str) -> None:
    expected, found = states["uninterrupted"].result(), states[ordeal].result()

    assert found.keys() == expected.keys()
    for kind in expected:
        assert expected[kind], kind
        assert (kind, found[kind] - expected[kind], expected[kind] - found[kind]) == (kind, set(), set())
