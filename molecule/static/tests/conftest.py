"""What the tests without a host share: inventories of their own, and real runs against them."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Site
from ansible_collections.celeriac.site.plugins.plugin_utils.lighter import make_lighter
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.bundle import Bundle, read_bundle
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.check import problems_of
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.inventory import Inventory
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.problem import Problem

from testkit.index import Index

# As in each run: the same templates are rendered for hundreds of tests.
make_lighter()

ROOT = Path(__file__).resolve().parents[3]

# One host that does everything. Nothing answers where it points to, except the `Watch` of a test.
HOSTS = """\
---
all:
  hosts:
    h1:
      ansible_host: 127.0.0.1
      ansible_port: 9
  children:
    web: { hosts: { h1: } }
    workers: { hosts: { h1: } }
    beat: { hosts: { h1: } }
    monitor: { hosts: { h1: } }
    broker: { hosts: { h1: } }
    database: { hosts: { h1: } }
"""
CHOICES = "---\nsite_domain: www.mysite.test\n"


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def known(tmp_path: Path) -> Site:
    """What a module is given about a site whose folders are this test's."""
    return Site(
        name="default",
        root=tmp_path,
        owner=pwd.getpwuid(os.getuid()).pw_name,
        group=grp.getgrgid(os.getgid()).gr_name,
        code="app",
        python=Path("/usr/bin/python3"),
        environment_files=(),
        processes=(),
        socket=tmp_path / "gunicorn.sock",
        monitor_socket=tmp_path / "flower.sock",
        domain="www.mysite.test",
        health_path="/health/",
        static_url="/static/",
        token="token",
        monitor_username="admin",
        monitor_password="password",
        beat_seconds=20,
        beat_hosts=1,
        timeout=1,
        kept=5,
    )


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """The vocabulary of the repository."""
    return read_bundle(ROOT)


@dataclass
class Written:
    """A folder with `hosts.yml` and `group_vars/all/main.yml`, right until a test edits them."""

    folder: Path
    bundle: Bundle
    extra: dict[str, Any] = field(default_factory=dict)

    def hosts(self, text: str) -> None:
        """Replace the file that says which host is in which group."""
        (self.folder / "hosts.yml").write_text(text)

    def choose(self, text: str) -> None:
        """Add lines to the choices."""
        with (self.folder / "group_vars" / "all" / "main.yml").open("a") as file:
            file.write(text)

    def read(self, *more_sources: Path) -> Inventory:
        """As preflight has it, without a run of Ansible."""
        loader = DataLoader()
        loader.set_basedir(str(ROOT / "playbooks"))
        sources = [str(self.folder), *map(str, more_sources)]
        return Inventory(self.bundle, loader, sources, self.extra)

    def problems(self, *more_sources: Path) -> list[Problem]:
        """What preflight says about it."""
        return list(dict.fromkeys(problems_of(self.read(*more_sources))))


@pytest.fixture
def inventory(tmp_path: Path, bundle: Bundle) -> Written:
    """A right inventory."""
    folder = tmp_path / "inventory"
    (folder / "group_vars" / "all").mkdir(parents=True)
    written = Written(folder, bundle)
    written.hosts(HOSTS)
    written.choose(CHOICES)
    return written


# Of each package the versions that the index has at first, and what they need.
PACKAGES = {
    "django": (("5.2.1", "5.2.2"), ()),
    "celery": (("5.6.0", "5.6.1"), ("kombu",)),
    "kombu": (("5.6.0",), ('redis<7 ; extra == "redis"',)),
    "redis": (("6.0", "7.0"), ()),
    "gunicorn": (("25.0", "26.0"), ()),
    "flower": (("2.1",), ("celery",)),
    "psycopg": (("3.2",), ('psycopg-binary==3.2 ; extra == "binary"',)),
    "psycopg-binary": (("3.2",), ()),
    "psycopg2": (("2.9",), ()),
    "idna": (("3.6", "3.7"), ()),
}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index of its own; what uv has in its cache does not count."""
    monkeypatch.setenv("UV_NO_CACHE", "1")
    (tmp_path / "index").mkdir()
    index = Index(tmp_path / "index")
    for name, (versions, needs) in PACKAGES.items():
        for version in versions:
            index.add(name, version, *needs)
    yield index
    index.close()


class Watch:
    """A TCP port of this computer that notices whether anybody came."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    def was_visited(self) -> bool:
        """Whether a connection arrived since the last time."""
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


@pytest.fixture
def watch() -> Iterator[Watch]:
    """The SSH port of a host that must not be touched."""
    watch = Watch()
    yield watch
    watch.close()


def ansible_playbook(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real `ansible-playbook` in the repository; standard error is part of the output."""
    beside = Path(sys.executable).parent / "ansible-playbook"
    program = beside if beside.exists() else Path(shutil.which(beside.name) or beside.name)
    return subprocess.run(
        [program, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_STRATEGY": "linear", "ANSIBLE_NOCOLOR": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,  # then it hangs
        check=False,
    )


@pytest.fixture(name="ansible_playbook", scope="session")
def _ansible_playbook() -> Any:
    """The function above; test files cannot import from here."""
    return ansible_playbook
