"""What a release is built with can be used by its owner, and what is made is on the disk and works."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.celeriac.site.plugins.module_utils import site_build, site_names, site_processes, systemd
from ansible_collections.celeriac.site.plugins.module_utils.site_build import OWN, Build, Releases
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Shipment, Site

RELEASE = "0123456789ab"
SHIPMENT = Shipment(None, Path("/etc/site/index.environment"), "uv==1.0", (), (), "before_migrate", {})


class Commands:
    """What `Releases` runs its commands with.

    Attributes:
        run: the commands, each with the files that the release had then.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run: list[tuple[str, list[str]]] = []

    def __call__(self, command: list[str]) -> tuple[int, str, str]:
        """Run a command on this computer."""
        self.run.append((command[0], sorted(path.name for path in self.folder.glob("releases/*/*"))))
        if command[0] == "systemd-run":
            return 0, "", ""  # the steps of a release: not what is tested here
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """The commands of a deploy into a folder."""
    return Commands(tmp_path)


@pytest.fixture
def build(known: Site, commands: Commands) -> Any:
    """A release that is about to be built below the folder."""
    return Build(Releases(commands, known), RELEASE, SHIPMENT)


def test_a_uv_that_others_could_not_run_is_mended(tmp_path: Path, build: Any) -> None:
    uv = tmp_path / "tools/uv-1.0/bin/uv"
    uv.parent.mkdir(parents=True)
    uv.write_text("#!/bin/sh\n")
    uv.chmod(0o750)
    for folder in (uv.parent, uv.parents[1], uv.parents[2]):
        folder.chmod(0o750)

    build._make_uv()

    for path in (uv, uv.parent, uv.parents[1], uv.parents[2]):
        assert path.stat().st_mode & 0o777 == 0o755, path


def test_of_what_builds_releases_only_the_last_one_stays(tmp_path: Path, build: Any) -> None:
    """Also of one whose installation was cut off; not where this release was made by another bundle."""
    for name in ("uv-0.9", ".uv-1.0", "uv-0.1"):
        (tmp_path / "tools" / name / "bin").mkdir(parents=True)
    build.prune()
    assert len([*(tmp_path / "tools").iterdir()]) == 3

    (tmp_path / "tools/uv-1.0/bin").mkdir(parents=True)
    build.prune()
    assert [path.name for path in (tmp_path / "tools").iterdir()] == ["uv-1.0"]


def test_a_host_installs_what_has_a_hash_and_asks_the_indexes_of_the_inventory(
    tmp_path: Path, commands: Commands, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they are, and the password, is in a file that only root may read: a command line is for everybody."""
    said: list[list[str]] = []

    def run(command: list[str]) -> tuple[int, str, str]:
        said.append(command)
        return 0, "", ""

    monkeypatch.setattr(build._releases, "_run", run)
    (tmp_path / "tools/uv-1.0/bin").mkdir(parents=True)
    (tmp_path / "tools/uv-1.0/bin/uv").touch()
    (tmp_path / "releases" / RELEASE).mkdir(parents=True)
    build.build()
    (install,) = (command for command in said if "pip" in command and "sync" in command)
    assert install[-2:] == ["--compile-bytecode", f"{tmp_path}/releases/{RELEASE}/requirements.txt"]
    assert "--require-hashes" in install
    assert "--property=EnvironmentFile=/etc/site/index.environment" in install


def test_the_owner_of_a_release_reads_its_own_version_of_a_file(tmp_path: Path, build: Any) -> None:
    said: list[list[str]] = []

    def run(command: list[str]) -> tuple[int, str, str]:
        said.append(command)
        return 0, "", ""

    build._releases._run = run
    release = tmp_path / "releases" / RELEASE
    (release / "owner/etc").mkdir(parents=True)
    (release / "owner/etc/site.ini").touch()
    build._releases.prepare(RELEASE, ["check"])
    build._releases.run_build_command(RELEASE, ("npm", "ci"))
    for command in said:
        assert f"--property=BindReadOnlyPaths={release}/owner/etc/site.ini:{release}/app/etc/site.ini" in command


def test_a_release_is_made_with_the_python_that_was_chosen(known: Site, tmp_path: Path) -> None:
    """And says so: a release of the host's own is made anew where that changes."""
    said: list[list[str]] = []

    def run(command: list[str]) -> tuple[int, str, str]:
        said.append(command)
        return 0, "Python 3.12.1", ""

    (tmp_path / "tools/uv-1.0/bin").mkdir(parents=True)
    (tmp_path / "tools/uv-1.0/bin/uv").touch()
    (tmp_path / "releases" / RELEASE).mkdir(parents=True)
    (tmp_path / "releases" / RELEASE / "requirements.txt").touch()
    notes = []
    for python in ("/usr/bin/python3.12", "/usr/bin/python3"):
        releases = Releases(run, replace(known, python=Path(python)))
        build = Build(releases, RELEASE, SHIPMENT)
        build.build()
        (made,) = (command for command in said if "venv" in command)
        assert made[-2] == python
        build.prepare(beside=False, point="")
        notes.append(releases.note(RELEASE).get("python"))
        for note in ("release.json", "built.json"):
            (tmp_path / "releases" / RELEASE / note).unlink()
        said.clear()
    assert notes == ["python3.12", None]


def test_other_packages_are_another_virtualenv(tmp_path: Path, build: Any) -> None:
    release = tmp_path / "releases" / RELEASE
    release.mkdir(parents=True)
    digests = set()
    for text in ("django==5.2.1", "django==5.2.2"):
        (release / "requirements.txt").write_text(text)
        digests.add(build._virtualenv_digest())
    assert len(digests) == 2


def test_a_cache_is_emptied_of_much_that_no_release_has(
    tmp_path: Path, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a release has too takes no room of its own, and is there afterwards."""
    releases = build._releases
    releases.make_folders()
    installed, cached = tmp_path / "releases/installed", tmp_path / "cache/wheels/installed"
    cached.parent.mkdir()
    cached.write_bytes(b"x" * 300_000)
    os.link(cached, installed)
    monkeypatch.setattr(site_build, "CACHE_BYTES", 200_000)
    releases.prune_cache()
    assert cached.exists()

    (tmp_path / "cache/wheels/old").write_bytes(b"x" * 300_000)
    releases.prune_cache()
    assert [*(tmp_path / "cache").iterdir()] == []
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert installed.stat().st_size == 300_000


def test_a_release_is_on_the_disk_before_it_counts_as_made(tmp_path: Path, commands: Commands, build: Any) -> None:
    release = tmp_path / "releases/0123456789ab"
    (release / "app").mkdir(parents=True)
    build.prepare(beside=False, point="")
    command, files = commands.run[-1]
    assert command == "sync"
    assert files == ["app"]
    assert (release / "release.json").exists()


def test_a_release_for_another_python_is_made_anew(tmp_path: Path, build: Any) -> None:
    """As after an upgrade of the host to the next Debian."""
    releases = build._releases
    release = tmp_path / "releases/0123456789ab"
    (release / "venv/lib" / OWN).mkdir(parents=True)
    (release / "release.json").write_text("{}")
    assert releases.is_made(release.name)

    (release / "venv/lib" / OWN).rename(release / "venv/lib/python3.5")
    assert not releases.is_made(release.name)

    # One that was chosen for it stays right, whatever the host has.
    (release / "release.json").write_text('{"python": "python3.5"}')
    assert releases.is_made(release.name)
    (release / "release.json").write_text("{}")
    archive = tmp_path / "archive.tar"
    subprocess.run(["tar", "--create", f"--file={archive}", "--files-from=/dev/null"], check=True)
    Build(releases, RELEASE, replace(SHIPMENT, archive=archive)).fetch()
    assert not (release / "venv").exists()


@pytest.mark.parametrize(("state", "serves"), [("active", True), ("activating", False), ("failed", False)])
def test_a_process_that_ends_again_and_again_does_not_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, serves: bool
) -> None:
    name, unit = "celery-worker.service", "celery-worker-0123456789ab.service"
    for folder in ("UNIT_DIRECTORY", "CANDIDATE_DIRECTORY"):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(site_processes, folder, tmp_path / folder)
    monkeypatch.setattr(site_names, "CONFIGURATION", tmp_path / "etc")
    (tmp_path / "etc/site/processes").mkdir(parents=True)
    (tmp_path / "etc/site/processes" / name).write_text("[Service]\n")
    (tmp_path / "UNIT_DIRECTORY" / unit).write_text("[Service]\n")
    (tmp_path / "UNIT_DIRECTORY" / name).symlink_to(unit)

    def systemctl(command: list[str]) -> tuple[int, str, str]:
        return 0, f"ActiveState={state}\nExecMainStartTimestamp=Fri 2100-01-01 00:00:00.000000 UTC\n", ""

    class Systemd(systemd.Systemd):
        """Of a host whose units are all in one state."""

        def states(self, units: list[str]) -> dict[str, str]:
            return dict.fromkeys(units, state)

    assert (
        site_processes.Process(Systemd(systemctl), "celery-worker", site_names.Names()).serves("0123456789ab") is serves
    )
