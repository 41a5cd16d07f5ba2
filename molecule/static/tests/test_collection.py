"""The repository as a collection: what is in it, and that it works from a folder that holds nothing of ours."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from configparser import ConfigParser
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from stack.documented import documented

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(sys.executable).parent
SECONDS = 600
# What a run reads, or a person.
PARTS = [
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "requirements.txt"),
    *("docs", "examples", "meta", "playbooks", "plugins", "roles", "runtime", "site", "templates"),
]
# What may lie about in a folder where somebody has worked.
LEFT = (
    ".cache/mypy/x",
    ".env",
    ".machines/key",
    ".venv/bin/python",
    "inventory/demo/host_vars/demo.json",
    "inventory/prod/.secrets/secret_key",
    "inventory/prod/hosts.yml",
    "playbooks/.secrets/secret_key",
    "plugins/modules/__pycache__/x.cpython-311.pyc",
    "runtime/.pytest_cache/x",
    "runtime/celeriac.egg-info/PKG-INFO",
    "runtime/celeriac/__pycache__/x.cpython-311.pyc",
    "site/.env",
    "site/celerybeat-schedule.db",
    "site/db.sqlite3",
    "site/static_collected/x.css",
)


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's programs as somebody who has set nothing; standard error is part of the output."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return subprocess.run(
        [PROGRAMS / command[0], *command[1:]],
        cwd=cwd,
        env=clean | {"ANSIBLE_NOCOLOR": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def tracked(*parts: str) -> list[str]:
    """Return the files of the repository."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--", *parts]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name]


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, built in a folder in which somebody has worked."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    for name in LEFT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("left over\n")
    built = run("ansible-galaxy", "collection", "build", cwd=folder)
    assert built.returncode == 0, built.stdout
    (file,) = folder.glob("celeriac-site-*.tar.gz")
    return file


@dataclass
class Folder:
    """A folder from which a site is operated: what docs/collection.md says, and no more."""

    path: Path

    def playbook(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `ansible-playbook`."""
        return run("ansible-playbook", *arguments, cwd=self.path, **environment)


@pytest.fixture(scope="module")
def installed(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `collections` with the collection in it."""
    folder = tmp_path_factory.mktemp("installed") / "collections"
    nowhere = "http://127.0.0.1:9/"  # a server of collections is not asked
    done = run(
        *("ansible-galaxy", "collection", "install", "--collections-path", folder, tarball),
        cwd=folder.parent,
        ANSIBLE_GALAXY_SERVER=nowhere,
    )
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture
def ops(tmp_path: Path, installed: Path) -> Folder:
    """A folder for a site; nobody answers where its host is."""
    (tmp_path / "collections").symlink_to(installed)
    for name, text in documented().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    choose(tmp_path, "hosts.yml", lambda text: text.replace("host1.example.org", "127.0.0.1\n      ansible_port: 9"))
    choose(tmp_path, "group_vars/all/site.yml", lambda text: re.sub("(?m)^site_source: .*\n", "", text))
    choose(tmp_path, "group_vars/all/site.yml", lambda text: text.replace("www.example.org", "www.mysite.test"))
    return Folder(tmp_path)


def choose(folder: Path, name: str, edit: Callable[[str], str]) -> None:
    """Edit a file of the inventory."""
    file = folder / "inventory" / name
    text = edit(file.read_text())
    assert text != file.read_text()
    file.write_text(text)


def test_it_holds_what_a_run_reads_and_nothing_else(tarball: Path) -> None:
    with tarfile.open(tarball) as tar:
        built = {member.name for member in tar if not member.isdir()}

    wanted = {name for name in tracked(*PARTS) if not name.startswith(("runtime/tests/", "site/tests/", "site/."))}
    assert built == wanted | {"MANIFEST.json", "FILES.json"}


def test_it_needs_no_other_collection(root: Path) -> None:
    metadata = yaml.safe_load((root / "galaxy.yml").read_text())
    texts = [file.read_text() for part in ("playbooks", "roles") for file in (root / part).rglob("*.yml")]
    used = {name for text in texts for name in re.findall(r"^ +(?:- )?(\w+\.\w+)\.\w+:$", text, re.MULTILINE)}

    assert metadata["dependencies"] == {}
    assert used == {"ansible.builtin", "celeriac.site"}


def test_the_versions_are_those_of_the_lock(root: Path) -> None:
    locked = dict(re.findall(r"^([\w-]+)==(\S+)", (root / "requirements.txt").read_text(), re.MULTILINE))
    (line,) = re.findall(r"^ +pip install (ansible-core.*)$", (root / "docs/collection.md").read_text(), re.MULTILINE)
    range_of_core = yaml.safe_load((root / "meta/runtime.yml").read_text())["requires_ansible"]

    named = dict(word.split("==") for word in line.split())
    assert set(named) == {"ansible-core", "mitogen", "passlib", "uv"}
    assert named == {name: locked[name] for name in named}
    assert locked["ansible-core"] in SpecifierSet(range_of_core)


def test_its_documented_configuration_is_that_of_the_clone(root: Path) -> None:
    clone, shown = ConfigParser(), ConfigParser()
    clone.read(root / "ansible.cfg")
    shown.read_string(documented()["ansible.cfg"])

    of_its_own = {"inventory", "collections_path"}
    for section in shown.sections():
        for name, value in shown[section].items():
            assert name in of_its_own or clone[section][name] == value, name


def test_every_playbook_is_found_by_its_name(ops: Folder, root: Path) -> None:
    names = [f"celeriac.site.{file.stem}" for file in sorted((root / "playbooks").glob("*.yml"))]
    listed = ops.playbook("--list-tasks", *names)

    assert listed.returncode == 0, listed.stdout
    assert "celeriac.site.site" in names
    for role in ("postgresql", "redis", "site_release", "site_rollback", "site_status", "nginx", "site_health"):
        assert f"celeriac.site.{role} : " in listed.stdout
    assert "[WARNING]" not in listed.stdout


@pytest.mark.parametrize("strategy", ["linear", "celeriac.site.mitogen_linear"])
def test_a_right_inventory_passes_and_its_host_is_asked_next(ops: Folder, strategy: str) -> None:
    said = ops.playbook("celeriac.site.preflight", ANSIBLE_STRATEGY=strategy, ANSIBLE_TIMEOUT="2")

    assert "TASK [celeriac.site.preflight_host : The host can carry its part of the site]" in said.stdout, said.stdout
    assert "unreachable=1" in said.stdout, said.stdout


def test_a_wrong_inventory_is_refused_with_the_file_to_edit(ops: Folder) -> None:
    choose(ops.path, "group_vars/all/site.yml", lambda text: text + "site_drain_secnds: 60\n")
    said = ops.playbook("celeriac.site.site")

    assert said.returncode != 0
    assert "The nearest name is `site_drain_seconds`." in said.stdout, said.stdout
    assert "inventory/group_vars/all/site.yml:3" in said.stdout, said.stdout
    assert "No host was touched." in said.stdout, said.stdout


def test_a_file_that_is_no_yaml_is_named_with_its_line(ops: Folder) -> None:
    choose(ops.path, "group_vars/all/site.yml", lambda text: text + "site_user: a: b\n")
    said = ops.playbook("celeriac.site.preflight")

    assert said.returncode != 0
    assert "inventory/group_vars/all/site.yml:3" in said.stdout, said.stdout


def test_it_works_with_no_configuration_at_all(ops: Folder, installed: Path) -> None:
    (ops.path / "ansible.cfg").unlink()
    choose(ops.path, "group_vars/all/site.yml", lambda text: text + "site_drain_secnds: 60\n")
    ask = partial(ops.playbook, "celeriac.site.site", "-i", "inventory", ANSIBLE_COLLECTIONS_PATH=str(installed))

    assert "The nearest name is `site_drain_seconds`." in ask().stdout
    assert ask("--list-tasks").returncode == 0


def test_other_collections_are_not_read_for_each_task(ops: Folder, installed: Path) -> None:
    """Mitogen would, and stumble over this one."""
    other = ops.path / "others/ansible_collections/some/other/MANIFEST.json"
    other.parent.mkdir(parents=True)
    other.write_text("{ this is no manifest")
    task = {"name": "A module of ours", "celeriac.site.site_run": {"path": str(ops.path / "note")}}
    play = {"name": "Here", "hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}
    (ops.path / "play.yml").write_text(yaml.safe_dump([play]))
    found = f"{installed}:{ops.path / 'others'}"
    done = ops.playbook("play.yml", ANSIBLE_COLLECTIONS_PATH=found)

    assert done.returncode == 0, done.stdout
    assert (ops.path / "note").exists()
    assert "manifest" not in done.stdout.lower(), done.stdout
