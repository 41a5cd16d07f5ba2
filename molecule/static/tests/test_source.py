"""What is shipped is what git tracks, whole, and what stays here is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.celeriac.site.plugins.action.site_release import (
    metadata_files,
    pack,
    release_files,
    release_name,
    written,
)
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.source import SourceError, read_source

PEOPLE = ("-c", "user.name=A", "-c", "user.email=a@mysite.test", "-c", "protocol.file.allow=always")


def git(folder: Path, *arguments: str) -> None:
    """Run git in a checkout of a test."""
    subprocess.run(["git", *PEOPLE, "-C", folder, *arguments], check=True, capture_output=True)


def write(folder: Path, *names: str) -> None:
    """Make files that hold their own names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project with two files that are committed, and a rule for what git ignores."""
    folder = tmp_path / "project"
    write(folder, "manage.py", "app/models.py")
    (folder / ".gitignore").write_text("dist/\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


TRACKED = {".gitignore", "manage.py", "app/models.py"}


def shipped(folder: Path, *include: str) -> set[str]:
    """The names of what is shipped."""
    return set(read_source(folder, include).files)


def said(folder: Path, *include: str) -> str:
    """What a person is told."""
    return " ".join(read_source(folder, include).remarks)


def name(folder: Path) -> str:
    """The name of the release."""
    return release_name(release_files(read_source(folder), read_source(folder), folder / "manage.py"))


def test_a_release_that_is_built_otherwise_is_another(checkout: Path) -> None:
    files = release_files(read_source(checkout), read_source(checkout), checkout / "manage.py")
    commands: list[list[list[str]]] = [[], [["npm", "ci"]], [["npm ci"]], [["npm"], ["ci"]]]
    assert len({release_name(files, each) for each in commands}) == len(commands)
    assert release_name(files, []) == name(checkout)
    assert len({release_name(files, [], python) for python in ("", "3.11", "3.13")}) == 3


def test_a_file_of_the_inventory_is_part_of_the_release_in_place_of_the_projects(
    checkout: Path, tmp_path: Path
) -> None:
    source = read_source(checkout)
    files = release_files(source, source, checkout / "manage.py")

    def made(text: str, of_owner: str) -> tuple[str, Path]:
        contents = {"app": {"app/models.py": text}, "owner": {"app/models.py": of_owner}}
        return name_and_content(files | written(contents, tmp_path / "scratch"), tmp_path / f"host-{text}-{of_owner}")

    first, host = made("a", "b")
    assert (host / "app/app/models.py").read_text() == "a"
    assert (host / "owner/app/models.py").read_text() == "b"
    assert (host / "app/manage.py").read_text() == "manage.py"
    assert len({first, made("c", "b")[0], made("a", "c")[0]}) == 3
    assert made("a", "b")[0] == first


@pytest.mark.parametrize("folder", ["", "src"])
@pytest.mark.parametrize("has", ["PKG-INFO", "a_shop.egg-info/PKG-INFO", "A_Shop-1.2.dist-info/METADATA"])
def test_a_package_that_is_not_installed_knows_its_version(tmp_path: Path, folder: str, has: str) -> None:
    """A source distribution says it at its top, where Python does not look."""
    top = tmp_path / "project"
    for file in {top / "PKG-INFO", top / folder / has}:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("Metadata-Version: 2.4\nName: A-Shop\nVersion: 1.2\n")
    source = read_source(top)
    added = metadata_files(source, folder)
    files = release_files(source, source, top / "PKG-INFO") | added
    host = name_and_content(files, tmp_path / "host")[1] / "app" / folder

    asked = [sys.executable, "-c", "from importlib.metadata import version; print(version('a-shop'))"]
    answer = subprocess.run(asked, cwd=host, env={"PYTHONPATH": str(host)}, check=True, capture_output=True, text=True)
    assert answer.stdout == "1.2\n"
    assert bool(added) == (has == "PKG-INFO")


@pytest.mark.parametrize("name", ["../../../etc/shop", "/etc/shop", "", "shop\n .."])
def test_what_a_package_calls_itself_is_no_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "PKG-INFO").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.2\n")
    assert metadata_files(read_source(tmp_path), "") == {}


def name_and_content(files: dict[str, Path], target: Path) -> tuple[str, Path]:
    """The name of a release of these files, and the folder with them as it comes to a host."""
    archive = target.with_suffix(".tar.gz")
    pack(files, archive)
    with tarfile.open(archive) as tar:
        tar.extractall(target)
    return release_name(files), target


def unpacked(folder: Path, target: Path) -> Path:
    """The project as it comes to a host."""
    source = read_source(folder)
    return name_and_content(release_files(source, source, folder / "manage.py"), target)[1] / "app"


def test_nothing_is_said_where_there_is_nothing_to_say(checkout: Path) -> None:
    assert shipped(checkout) == TRACKED
    assert said(checkout) == ""


def test_what_git_does_not_track_stays_here_and_is_named(checkout: Path) -> None:
    write(checkout, ".env", "dump.sql")
    assert shipped(checkout) == TRACKED
    assert said(checkout).startswith("2 files that git does not track are left out")
    assert said(checkout).endswith(": .env, dump.sql.")


def test_many_names_are_one_sentence(checkout: Path) -> None:
    write(checkout, *(f"dump{number}.sql" for number in range(50)))
    assert said(checkout).startswith("50 files that git does not track")
    assert len(said(checkout)) < 200


def test_what_a_build_has_made_is_shipped_when_it_is_named(checkout: Path) -> None:
    write(checkout, "dist/app.js", "dist/deep/app.css", "node_modules/x/dist/x.js")
    assert shipped(checkout) == TRACKED
    wanted = {"dist/app.js", "dist/deep/app.css", "node_modules/x/dist/x.js"}
    assert shipped(checkout, "dist", "node_modules/x/dist") == TRACKED | wanted
    assert said(checkout, "dist", "node_modules/x/dist") == ""


def test_a_change_is_shipped_and_said(checkout: Path) -> None:
    before = name(checkout)
    (checkout / "app/models.py").write_text("another")
    assert name(checkout) != before
    assert said(checkout) == "1 file with changes that are not committed is shipped: app/models.py."


def test_what_is_staged_is_not_committed(checkout: Path) -> None:
    write(checkout, "app/views.py")
    git(checkout, "add", ".")
    assert shipped(checkout) == TRACKED | {"app/views.py"}
    assert "1 file with changes that are not committed is shipped: app/views.py" in said(checkout)


def test_a_file_that_was_deleted_is_not_shipped(checkout: Path) -> None:
    (checkout / "app/models.py").unlink()
    assert shipped(checkout) == TRACKED - {"app/models.py"}
    assert "app/models.py" in said(checkout)


def test_a_folder_of_a_checkout_is_a_project_too(checkout: Path) -> None:
    write(checkout, "app/dump.sql")
    assert shipped(checkout / "app") == {"models.py"}
    assert said(checkout / "app").endswith(": dump.sql.")


def test_a_submodule_is_shipped_with_what_it_tracks(checkout: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    write(library, "code.py")
    git(library, "init", "--quiet")
    git(library, "add", ".")
    git(library, "commit", "--quiet", "--message", "first")
    git(checkout, "submodule", "--quiet", "add", str(library), "lib")
    write(checkout, "lib/dump.sql")
    assert {"lib/code.py"} == {file for file in shipped(checkout) if file.startswith("lib/")}

    git(checkout, "submodule", "--quiet", "deinit", "--force", "lib")
    with pytest.raises(SourceError, match=r"submodule lib .* is not checked out") as refused:
        read_source(checkout)
    assert "submodule update --init" in refused.value.remedy


def test_links_arrive_as_links(checkout: Path, tmp_path: Path) -> None:
    (checkout / "again").symlink_to("app")
    (checkout / "app/again.py").symlink_to("models.py")
    git(checkout, "add", ".")
    host = unpacked(checkout, tmp_path / "host")
    assert (host / "again/models.py").read_text() == "app/models.py"
    assert (host / "app/again.py").is_symlink()


def test_where_a_link_leads_is_part_of_the_release(checkout: Path) -> None:
    write(checkout, "app/same.py")
    (checkout / "app/same.py").write_text("app/models.py")
    (checkout / "link").symlink_to("app/models.py")
    git(checkout, "add", ".")
    before = name(checkout)
    (checkout / "link").unlink()
    (checkout / "link").symlink_to("app/same.py")
    assert name(checkout) != before


def test_a_link_to_a_file_outside_brings_its_content(checkout: Path, tmp_path: Path) -> None:
    write(tmp_path, "shared.py")
    (checkout / "shared.py").symlink_to("../shared.py")
    git(checkout, "add", ".")
    host = unpacked(checkout, tmp_path / "host")
    assert (host / "shared.py").read_text() == "shared.py"
    assert not (host / "shared.py").is_symlink()


@pytest.mark.parametrize("way", ["../shared", "{}/shared"])
def test_a_link_to_a_folder_outside_is_refused(checkout: Path, tmp_path: Path, way: str) -> None:
    write(tmp_path, "shared/code.py")
    (checkout / "shared").symlink_to(way.format(tmp_path))
    git(checkout, "add", ".")
    with pytest.raises(SourceError, match="link to a folder outside"):
        read_source(checkout)


@pytest.mark.parametrize("leads_to", ["dist", "/srv/site/media", "nowhere"])
def test_a_link_to_what_is_not_shipped_is_said(checkout: Path, leads_to: str) -> None:
    write(checkout, "dist/app.js")
    (checkout / "link").symlink_to(leads_to)
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "--message", "link")
    assert said(checkout) == "1 file is shipped and a link to what is not: link."


def test_a_hook_of_another_repository_changes_nothing(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(checkout, "dump.sql")
    git(tmp_path, "init", "--quiet", "--bare", "hub.git")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "hub.git"))
    assert shipped(checkout) == TRACKED


def broken(checkout: Path) -> None:
    """A checkout that git does not take for one."""
    (checkout / ".git/HEAD").unlink()


def of_another(checkout: Path) -> None:
    """A checkout of another account."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    for path in (checkout, *checkout.rglob("*")):
        os.lchown(path, 65534, 65534)


@pytest.mark.parametrize(
    ("fault", "words", "remedy"),
    [
        (broken, "not a git repository", "git -C"),
        (of_another, "dubious ownership", "git config --global --add safe.directory"),
    ],
)
def test_what_git_cannot_read_is_refused_in_its_own_words(
    checkout: Path, fault: Callable[[Path], None], words: str, remedy: str
) -> None:
    write(checkout, ".env", "dump.sql")
    fault(checkout)
    with pytest.raises(SourceError, match=words) as refused:
        read_source(checkout)
    assert refused.value.remedy.startswith(remedy)


def test_a_checkout_without_git_is_refused(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SourceError, match="no git on this computer"):
        read_source(checkout)


@pytest.mark.parametrize("began", [False, True], ids=["no checkout", "nothing added"])
def test_where_git_tracks_nothing_all_but_what_is_private_is_shipped(tmp_path: Path, *, began: bool) -> None:
    write(tmp_path, "manage.py", ".env", "db.sqlite3", "db.sqlite3-wal", ".venv/bin/python", "app/static/logo.svg")
    write(tmp_path, "app/__pycache__/models.pyc", ".env.example")
    if began:
        git(tmp_path, "init", "--quiet")
    assert shipped(tmp_path) == {"manage.py", "app/static/logo.svg", ".env.example"}
    assert said(tmp_path).endswith("3 files that git does not track are left out: .env, db.sqlite3, db.sqlite3-wal.")
    assert ".env" in shipped(tmp_path, ".env")


def test_a_checkout_and_a_copy_of_it_are_one_release(checkout: Path, tmp_path: Path) -> None:
    (checkout / "again").symlink_to("app")
    git(checkout, "add", ".")
    copy = tmp_path / "copy"
    shutil.copytree(checkout, copy, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    assert name(copy) == name(checkout)


def test_preflight_refuses_it_before_a_host_is_touched(inventory: Any, checkout: Path) -> None:
    git(checkout, "rm", "--quiet", "--cached", "manage.py")
    inventory.choose(f"site_source: {checkout}\nsite_source_include: [dist]\n")
    problems = "\n".join(map(str, inventory.problems()))
    assert f"`site_source_include` names dist, and there is no such file or folder inside of {checkout}" in problems

    write(checkout, "dist/app.js")
    problems = "\n".join(map(str, inventory.problems()))
    assert f"git does not track manage.py in {checkout}" in problems
    assert f"git -C {checkout} add manage.py" in problems

    git(checkout, "add", ".")
    broken(checkout)
    assert "not a git repository" in "\n".join(map(str, inventory.problems()))


@pytest.mark.parametrize("path", ["../project", "/etc/hostname", "nowhere"])
def test_what_is_not_in_the_project_cannot_be_included(inventory: Any, checkout: Path, path: str) -> None:
    inventory.choose(f"site_source: {checkout}\nsite_source_include: [{path}]\n")
    assert f"`site_source_include` names {path}" in "\n".join(map(str, inventory.problems()))
