"""Whatever a project has becomes exact versions with hashes, once, and what it has locked itself is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.celeriac.site.plugins.action.site_host_preflight import too_old
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.problem import Place
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve import additions, uv
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.errors import LockError
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.projects import Wanted, read_project
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.requirements import lines_of
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.resolve import Locked, resolve
from uv import find_uv_bin

from testkit.index import PASSWORD, Index

OURS = {"gunicorn", "redis", "flower", "psycopg", "psycopg-binary", "kombu"}


class Folder:
    """A project, and the file that is kept for it.

    Attributes:
        top: of the project.
        kept: the file beside the inventory.
    """

    def __init__(self, path: Path, index: Index) -> None:
        self.top = path / "project"
        self.kept = path / "site.lock.txt"
        self.index = index
        self.write("manage.py", "")

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        (self.top / name).parent.mkdir(parents=True, exist_ok=True)
        (self.top / name).write_text(text)

    def wanted(self, **choices: Any) -> Wanted:
        """The choices, with the index of this test."""
        return Wanted(self.top, **{"index_url": self.index.url, **choices})

    def resolve(self, *, anew: bool = False, into: Path | None = None, **choices: Any) -> Locked:
        """What a run does."""
        return resolve(self.wanted(**choices), self.kept, anew=anew, into=into)

    def versions(self) -> dict[str, str]:
        """What is kept."""
        return {line.name: line.version for line in lines_of(self.kept.read_text())}


@pytest.fixture
def project(tmp_path: Path, index: Index) -> Folder:
    """A project that has nothing but manage.py."""
    return Folder(tmp_path, index)


PYPROJECT = """\
[project]
name = "mysite"
version = "1"
requires-python = ">=3.11"
dependencies = ["django==5.2.1", "celery==5.6.0"]
[project.optional-dependencies]
prod = ["idna==3.6"]
[dependency-groups]
dev = ["psycopg2"]
main = ["gunicorn==25.0"]
"""
POETRY = """\
[tool.poetry.dependencies]
python = "^3.11"
django = "~5.2"
celery = { version = "^5.6", extras = [] }
idna = { version = "*", optional = true }
[tool.poetry.extras]
prod = ["idna"]
[tool.poetry.group.main.dependencies]
gunicorn = "*"
"""


def of_ranges(project: Folder) -> None:
    """Requirements with ranges and an include."""
    project.write("requirements/base.txt", "django==5.2.1\nidna<3.7  # not yet\n")
    project.write("requirements.txt", "-r requirements/base.txt\ncelery==5.6.0\ngunicorn<26\n")


def of_hashes(project: Folder) -> None:
    """A lock with hashes, which lacks what a site needs."""
    locked = {"django": "5.2.1", "celery": "5.6.0", "kombu": "5.6.0", "gunicorn": "25.0", "idna": "3.6"}
    project.write("requirements.txt", "".join(project.index.hashed(*each) for each in locked.items()))


def of_uv(project: Folder) -> None:
    """What uv makes, above the folder of manage.py."""
    project.write("pyproject.toml", PYPROJECT)
    lock(project)


def lock(project: Folder) -> None:
    """What its developers do."""
    command = [find_uv_bin(), "lock", "--quiet", "--python", sys.executable]
    subprocess.run(command, cwd=project.top, env=os.environ | {"UV_DEFAULT_INDEX": project.index.url}, check=True)


def of_poetry(project: Folder) -> None:
    """What Poetry makes."""
    project.write("pyproject.toml", POETRY)
    locked = {
        "django": "5.2.1",
        "celery": "5.6.0",
        "kombu": "5.6.0",
        "gunicorn": "25.0",
        "idna": "3.6",
        "flower": "2.1",
    }
    packages = (f'[[package]]\nname = "{name}"\nversion = "{version}"\n' for name, version in locked.items())
    project.write("poetry.lock", "\n".join(packages))


def of_pyproject(project: Folder) -> None:
    """No lock at all."""
    project.write("pyproject.toml", PYPROJECT)


@pytest.mark.parametrize("has", [of_ranges, of_hashes, of_uv, of_poetry, of_pyproject])
def test_each_form_becomes_versions_that_a_host_can_install(
    project: Folder, has: Callable[[Folder], None], tmp_path: Path
) -> None:
    """What the project has pinned is kept, though there is something newer; what it lacks comes with it."""
    has(project)
    project.write("src/manage.py", "")
    is_plain = has in (of_ranges, of_hashes)
    chosen: dict[str, Any] = {} if is_plain else {"extras": ("prod",), "groups": ("main",)}
    said = project.resolve(folder="src", **chosen).remark

    pinned = {"django": "5.2.1", "celery": "5.6.0", "gunicorn": "25.0", "idna": "3.6"}
    assert pinned.items() <= project.versions().items()
    assert set(project.versions()) == {*pinned, *OURS}
    assert "flower 2.1, psycopg 3.2, redis 6.0 added" in said
    done = subprocess.run(
        [find_uv_bin(), "pip", "sync", "--require-hashes", "--target", str(tmp_path / "venv"), str(project.kept)],
        env=os.environ | {"UV_DEFAULT_INDEX": project.index.url},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "venv/celery-5.6.0.dist-info").is_dir()


def test_of_two_versions_that_poetry_has_locked_hosts_get_one(project: Folder) -> None:
    """As for two systems: it does not say which one is for Debian."""
    of_poetry(project)
    project.write(
        "poetry.lock", (project.top / "poetry.lock").read_text() + '[[package]]\nname = "idna"\nversion = "3.7"\n'
    )
    project.resolve(extras=("prod",))
    assert project.versions()["idna"] in ("3.6", "3.7")


@pytest.mark.parametrize(("asked", "had"), [("", "99.0"), ("uvicorn==0.31\n", "0.31")])
def test_a_project_on_asgi_gets_what_serves_it(project: Folder, asked: str, had: str) -> None:
    """In the version that it has, where it has one; and nobody else gets it."""
    for name, *versions in (("uvicorn", "0.31", "99.0"), ("uvicorn-worker", "99.0"), ("wsproto", "1.2")):
        for version in versions:
            project.index.add(name, version)
    project.write("requirements.txt", f"django\ncelery\nwsproto\n{asked}")
    project.resolve()
    assert "uvicorn-worker" not in project.versions()
    remark = project.resolve(asgi=True).remark
    assert {"uvicorn": had, "uvicorn-worker": "99.0"}.items() <= project.versions().items()
    assert "what every site has changed" in remark
    # It has another library that speaks to websockets.
    assert "websockets" not in project.versions()


def test_a_project_without_a_word_about_packages_has_those_of_the_inventory(project: Folder) -> None:
    project.resolve(requirements=("django", "celery<5.6.1"), monitored=False)
    assert project.versions()["celery"] == "5.6.0"
    assert "flower" not in project.versions()


@pytest.mark.parametrize(("asked", "had"), [("redis", "6.0"), ("redis==7.0", "7.0")])
def test_a_client_of_redis_in_ranges_is_one_for_its_kombu_where_there_is_one(
    project: Folder, asked: str, had: str
) -> None:
    project.write("requirements.txt", f"django\ncelery\n{asked}\n")
    project.resolve()
    assert project.versions()["redis"] == had


def test_a_lock_that_has_all_is_taken_as_it_stands(project: Folder) -> None:
    of_hashes(project)
    with (project.top / "requirements.txt").open("a") as file:
        ours = {"redis": "6.0", "flower": "2.1", "psycopg2": "2.9"}
        file.writelines(project.index.hashed(*each) for each in ours.items())
    assert project.resolve(requirements=("idna<4",)) == Locked(project.top / "requirements.txt")
    assert not project.kept.exists()
    assert project.index.asked == []

    project.resolve(requirements=("psycopg",))
    assert "psycopg" in project.versions()


def test_a_lock_that_has_all_is_refused_with_a_celery_that_is_too_old(project: Folder) -> None:
    versions = {"django": "5.2.1", "celery": "5.3.6", "gunicorn": "25.0", "redis": "6.0", "flower": "2.1"}
    project.index.add("celery", "5.3.6", "kombu")
    locked = [project.index.hashed(*each) for each in {**versions, "psycopg2": "2.9"}.items()]
    project.write("requirements.txt", "".join(locked))
    with pytest.raises(LockError, match=r"requirements\.txt has celery 5\.3\.6"):
        project.resolve()


def test_what_has_not_changed_costs_nothing(project: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    of_ranges(project)
    assert project.resolve().remark
    made = project.kept.read_bytes()
    monkeypatch.setattr(uv, "find_uv_bin", None)
    assert project.resolve() == Locked(project.kept)
    assert project.kept.read_bytes() == made


def test_a_change_changes_what_it_must_and_is_said(project: Folder) -> None:
    project.write("requirements.txt", "-r base.txt\ncelery\n")
    project.write("base.txt", "django\n")
    project.resolve()
    project.index.add("celery", "5.6.2", "kombu")
    project.index.add("gunicorn", "26.1")
    project.write("base.txt", "django\nidna\n")
    said = project.resolve().remark
    assert said == "site.lock.txt was made anew (base.txt changed): idna (new) → 3.7."
    assert project.versions()["celery"] == "5.6.1"

    said = project.resolve(anew=True).remark
    assert said == "site.lock.txt was made anew (site_relock): celery 5.6.1 → 5.6.2, gunicorn 26.0 → 26.1."


def test_a_file_that_was_cut_off_is_made_again(project: Folder) -> None:
    of_ranges(project)
    project.resolve()
    whole = project.kept.read_text()
    project.kept.write_text(whole[: whole.index("--hash", len(whole) // 2)])
    project.resolve()
    assert project.kept.read_text() == whole


def test_a_look_leaves_what_is_kept_alone(project: Folder, tmp_path: Path) -> None:
    of_ranges(project)
    assert project.resolve(into=tmp_path / "elsewhere.txt").file == tmp_path / "elsewhere.txt"
    assert not project.kept.exists()


def test_what_was_tested_is_preferred_to_what_is_newest(
    project: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tested.txt").write_text("gunicorn==25.0 --hash=sha256:00\ncelery==5.6.0 --hash=sha256:00\n")
    monkeypatch.setattr(additions, "_TESTED", (tmp_path / "tested.txt",))
    project.write("requirements.txt", "django\ncelery\n")
    project.resolve(anew=True)
    assert project.versions()["gunicorn"] == "25.0"
    assert project.versions()["celery"] == "5.6.1"


def test_a_password_of_an_index_is_shown_nowhere(
    project: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, program = tmp_path / "seen", tmp_path / "uv"
    program.write_text(f'#!/bin/sh\necho "$@" >> {seen}\nexec {find_uv_bin()} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(uv, "find_uv_bin", lambda: str(program))
    of_uv(project)
    wanted = project.wanted(extra_index_urls=(project.index.url,))
    resolve(wanted, project.kept)
    assert PASSWORD not in project.kept.read_text() + seen.read_text() + repr(wanted)

    with pytest.raises(LockError, match="uv finds no versions") as refused:
        project.resolve(
            requirements=(f"idna @ http://reader:{PASSWORD}@127.0.0.1:{project.index.server_port}/idna-1.tar.gz",)
        )
    assert PASSWORD not in str(refused.value)


def test_uv_trusts_whom_this_computer_trusts(project: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a company's proxy nobody else has signed anything; who has said another list has that."""
    program = tmp_path / "uv"
    program.write_text('#!/bin/sh\necho "$SSL_CERT_FILE"\n')
    program.chmod(0o755)
    monkeypatch.setattr(uv, "find_uv_bin", lambda: str(program))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert uv.uv(project.wanted(), tmp_path) == "/etc/ssl/certs/ca-certificates.crt\n"
    monkeypatch.setenv("SSL_CERT_FILE", "/mine.crt")
    assert uv.uv(project.wanted(), tmp_path) == "/mine.crt\n"


def differing(project: Folder) -> None:
    """A lock that was forgotten."""
    of_uv(project)
    project.write("pyproject.toml", PYPROJECT.replace("5.2.1", "5.2.2"))


def of_another_python(project: Folder) -> None:
    """No Debian has it."""
    project.write("pyproject.toml", PYPROJECT.replace(">=3.11", "==3.12.*"))


def of_the_newest(project: Folder) -> None:
    """Which of its hosts can have it, nobody says."""
    project.index.add("django", "5.3", python=">=3.12")
    project.write("requirements.txt", "django>=5.3\ncelery\n")


def half_locked(project: Folder) -> None:
    """A lock of Poetry that was forgotten."""
    of_poetry(project)
    project.write("pyproject.toml", POETRY.replace("celery", "sentry-sdk"))


def of_a_repository(line: str) -> Callable[[Folder], None]:
    """A requirement that has no hash."""
    return lambda project: project.write("requirements.txt", f"django\ncelery\n{line}\n")


REFUSED: dict[str, tuple[Callable[[Folder], None], dict[str, Any], str, str, str]] = {
    "nothing": (lambda _: None, {}, "not known which packages", "site_requirements: [", "site_lock"),
    "no such lock": (of_ranges, {"lock": "prod.txt"}, "no file prod.txt", "site_lock: requ", "site_lock"),
    "lock of before": (differing, {}, "not what its pyproject.toml asks for", "uv lock", "site_lock"),
    "no such extra": (of_uv, {"extras": ("x",)}, "`x`", "site_lock_extras: [", "site_lock_extras"),
    "lock of Poetry of before": (half_locked, {}, "sentry-sdk", "poetry lock", "site_lock"),
    "no TOML": (
        lambda project: project.write("pyproject.toml", "[project"),
        {},
        "cannot be read",
        "git -C",
        "site_lock",
    ),
    "another Python": (of_another_python, {}, "==3.12.* only", "requires-python =", "site_lock"),
    "a package that needs a newer Python than some hosts have": (
        of_the_newest,
        {},
        "Packages of requirements.txt need Python >=3.12, and hosts may have 3.11",
        'site_python: "3.13"',
        "site_python",
    ),
    "repository": (of_a_repository("x @ git+ssh://git@h/x"), {}, "has no hash", "NAME @ https", "site_lock"),
    "folder": (of_a_repository("-e ."), {}, "`-e .`", "itself is left out", "site_lock"),
    "repository of ours": (of_ranges, {"requirements": ("git+https://h/x",)}, "git", "NAME @", "site_requirements"),
    "what excludes each other": (
        of_ranges,
        {"requirements": ("gunicorn>=26",)},
        "gunicorn>=26",
        "site_requirements: [",
        "site_requirements",
    ),
    "what a lock of Poetry excludes": (
        of_poetry,
        {"requirements": ("gunicorn>=26",)},
        "gunicorn==25.0",
        "site_requirements: [",
        "site_requirements",
    ),
    "no Celery": (
        lambda project: project.write("requirements.txt", "django\n"),
        {"monitored": False},
        "has no celery",
        "site_requirements: [",
        "site_requirements",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_with_words_and_an_example(project: Folder, case: str) -> None:
    has, chosen, words, example, choice = REFUSED[case]
    has(project)
    with pytest.raises(LockError) as refused:
        project.resolve(**chosen)
    assert words in str(refused.value)
    assert example in refused.value.remedy
    assert refused.value.choice == choice
    assert not project.kept.exists()


def test_where_all_hosts_have_a_newer_python_its_packages_may_need_it(project: Folder) -> None:
    of_the_newest(project)
    project.resolve(python="3.13")
    assert project.versions()["django"] == "5.3"


def test_where_uv_is_not_its_absence_is_said(project: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    of_ranges(project)
    monkeypatch.setattr(uv, "find_uv_bin", None)
    with pytest.raises(LockError, match="uv") as refused:
        project.resolve()
    assert refused.value.remedy == "pip install uv"


@pytest.mark.parametrize(
    ("asked", "debian_12", "debian_13"),
    [(">=3.12", False, True), ("", True, True), (">=3.11,<3.13", True, False), ("^3.11", True, True)],
)
def test_a_host_with_another_python_is_refused_alone(
    project: Folder, asked: str, debian_12: bool, debian_13: bool
) -> None:
    project.write("pyproject.toml", f'[tool.poetry.dependencies]\npython = "{asked}"\n')
    wanted = project.wanted()
    assert [not too_old(wanted, python, Place("h1")) for python in ("3.11.2", "3.13.5")] == [debian_12, debian_13]
    assert read_project(wanted).target == ("3.11" if debian_12 else "3.13")


@pytest.mark.parametrize(
    ("chosen", "asked", "target"),
    [("3.13", ">=3.13.2", "3.13"), ("3.11", "", "3.11"), ("3.14", ">=3.14", "3.14"), ("3.13", "<3.13", "")],
)
def test_versions_are_those_of_the_python_that_was_chosen(
    project: Folder, chosen: str, asked: str, target: str
) -> None:
    project.write("pyproject.toml", f'[tool.poetry.dependencies]\npython = "{asked}"\n')
    wanted = project.wanted(python=chosen)
    if not target:
        with pytest.raises(LockError, match=r"`site_python` is 3\.13") as refused:
            read_project(wanted)
        assert refused.value.choice == "site_python"
        return
    assert read_project(wanted).target == target
    assert too_old(wanted, "3.11.2", Place("h1")) == []


def test_preflight_makes_it_once_and_says_so(inventory: Any, project: Folder, ansible_playbook: Any) -> None:
    of_ranges(project)
    kept = inventory.folder / "site.lock.txt"
    inventory.choose(f"site_source: {project.top}\nsite_index_url: {project.index.url}\n")
    inventory.choose(
        "site_settings_module: manage\nsite_celery_app: manage\nsite_wsgi_application: manage:application\n"
    )

    looked = ansible_playbook("playbooks/preflight.yml", "-i", inventory.folder, "--check")
    assert "site.lock.txt would be made: " in looked.stdout
    assert not kept.exists()

    for times in (1, 0):
        ran = ansible_playbook("playbooks/preflight.yml", "-i", inventory.folder, "-vvv")
        assert ran.stdout.count("site.lock.txt was made: ") == times, ran.stdout
        assert PASSWORD not in ran.stdout
    assert "celery==5.6.0" in kept.read_text()
