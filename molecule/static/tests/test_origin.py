"""What `site_source` names comes to this computer whole, once, and nothing of it is run here."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.celeriac.site.plugins.action.site_release import note_of
from ansible_collections.celeriac.site.plugins.plugin_utils.origin.fetch import Fetched, fetched
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.source import SourceError, read_source
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.errors import LockError
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.projects import Wanted, read_project
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.resolve import resolve
from uv import find_uv_bin

from testkit.index import PASSWORD, Index

PEOPLE = ("-c", "user.name=A", "-c", "user.email=a@mysite.test")
TOKEN = "s3same-t0ken"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where what was fetched is kept, of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index that has nothing yet."""
    monkeypatch.setenv("UV_NO_CACHE", "1")
    (tmp_path / "index").mkdir()
    index = Index(tmp_path / "index")
    yield index
    index.close()


class Site:
    """An inventory that names a source.

    Attributes:
        beside: its folder.
    """

    def __init__(self, beside: Path) -> None:
        self.beside = beside
        beside.mkdir()

    def fact(self, source: str, version: str = "", **more: Any) -> dict[str, Any]:
        """What the derived facts say."""
        lists: dict[str, Any] = {name: [] for name in ("extra_index_urls", "extras", "groups", "requirements")}
        texts = {"index_url": "", "folder": "", "python": "", "lock": "", "beside": str(self.beside)}
        return {
            "source": source,
            "source_version": version,
            "monitored": False,
            "asgi": False,
            **lists,
            **texts,
            **more,
        }

    def deploy(self, source: str, version: str = "", *, anew: bool = False, **more: Any) -> Fetched:
        """What preflight does in a deploy."""
        return fetched(self.fact(source, version, **more), ask=True, anew=anew, write=True)

    @property
    def kept(self) -> str:
        """What is beside it."""
        file = self.beside / "site.source.txt"
        return file.read_text() if file.exists() else ""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An inventory."""
    return Site(tmp_path / "inventory")


def tar(**files: str | tarfile.TarInfo) -> bytes:
    """A compressed tar file; `__` in a name is a slash."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content, io.BytesIO(b"x" * content.size))
                continue
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return stream.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    """Something in a tar file."""
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.mode = kind, target, mode
    found.size = 1 if kind == tarfile.REGTYPE else 0
    return found


# ── Packages ─────────────────────────────────────────────────────────────────────────────────────


def test_a_package_is_fetched_once_and_is_the_same_the_next_time(site: Site, index: Index, cache: Path) -> None:
    index.put("shop", "shop-1.2.tar.gz", tar(**{"shop-1.2__manage.py": "first"}))
    index.put("shop", "shop-1.3.tar.gz", tar(**{"shop-1.3__manage.py": "newer"}))
    index.add("shop", "1.2")  # a wheel
    first = site.deploy("shop==1.2", index_url=index.url)
    assert (first.folder / "manage.py").read_text() == "first"
    assert "shop==1.2 is sha256 " in first.remark
    assert "shop==1.2 = sha256 " in site.kept

    index.asked.clear()
    assert site.deploy("shop==1.2", index_url=index.url) == Fetched(first.folder, first.exact)
    assert index.asked == []

    shutil.rmtree(cache)
    assert site.deploy("shop==1.2", index_url=index.url) == Fetched(first.folder, first.exact)
    assert note_of(first, site.fact("shop==1.2")) == {"commit": "", "source": f"shop==1.2 = {first.exact}"}


def test_a_package_that_is_another_one_day_is_refused(site: Site, index: Index, cache: Path) -> None:
    index.put("shop", "shop-1.2.tar.gz", tar(**{"shop-1.2__manage.py": "first"}))
    site.deploy("shop==1.2", index_url=index.url)
    before = site.kept
    shutil.rmtree(cache)
    index.put("shop", "shop-1.2.tar.gz", tar(**{"shop-1.2__manage.py": "changed"}))
    with pytest.raises(SourceError, match=r"shop==1\.2 is another thing than it was") as refused:
        site.deploy("shop==1.2", index_url=index.url)
    assert "site_relock=true" in refused.value.remedy
    assert site.kept == before

    again = site.deploy("shop==1.2", index_url=index.url, anew=True)
    assert (again.folder / "manage.py").read_text() == "changed"
    assert str(again.exact) in site.kept


def test_a_file_that_is_not_what_its_index_says_is_refused(site: Site, index: Index) -> None:
    index.put("shop", "shop-1.2.tar.gz", tar(**{"shop-1.2__manage.py": "first"}))
    index.put("shop", "index.html", f'<a href="shop-1.2.tar.gz#sha256={"0" * 64}">x</a>'.encode())
    with pytest.raises(SourceError, match="did not arrive as the index has it"):
        site.deploy("shop==1.2", index_url=index.url)


def test_an_index_is_asked_in_turn_and_its_password_is_nobody_elses(site: Site, index: Index, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Index(tmp_path / "other")
    other.put("files", "shop-1.2.tar.gz", tar(**{"shop-1.2__manage.py": "first"}))
    elsewhere = f"http://127.0.0.1:{other.server_port}/files/shop-1.2.tar.gz"
    index.put("shop", "index.html", f'<a href="{elsewhere}">x</a>'.encode())
    with pytest.raises(SourceError, match="answers with 401") as refused:
        site.deploy("shop==1.2", index_url=other.url, extra_index_urls=[index.url])
    assert other.asked == ["/files/shop-1.2.tar.gz"]
    assert PASSWORD not in str(refused.value)
    other.close()


@pytest.mark.parametrize("has", [["shop-1.0.tar.gz"], ["shop-1.2-cp311-cp311-manylinux_2_17_x86_64.whl"], []])
def test_a_version_without_a_source_is_refused(site: Site, index: Index, has: list[str]) -> None:
    for name in has:
        index.put("shop", name, tar())
    with pytest.raises(SourceError, match=r"no source of shop==1\.2; there is (1\.0|none at all)") as refused:
        site.deploy("shop==1.2", index_url=index.url)
    assert refused.value.remedy.startswith("site_source: shop==")


def test_a_wheel_is_a_project_with_the_packages_that_it_asks_for(site: Site, index: Index) -> None:
    """Of what an extra asks for the inventory decides."""
    for name, version in (("django", "5.2.1"), ("celery", "5.6.0"), ("kombu", "5.6.0"), ("redis", "6.0")):
        index.add(name, version)
    for name in ("gunicorn", "psycopg"):
        index.add(name, "26.0")
    index.add("shop", "1.2", "django>=5", "celery", 'kombu ; extra == "prod"', 'gone ; extra == "dev"')
    found = site.deploy("shop==1.2", index_url=index.url)
    wanted = Wanted.from_fact(site.fact("shop==1.2", extras=["prod"], index_url=index.url), found.folder)
    assert [line.text for line in read_project(wanted).lines] == ["django>=5", "celery", "kombu"]
    locked = resolve(wanted, site.beside / "site.lock.txt")
    assert "django==5.2.1" in locked.file.read_text()
    assert "shop==" not in locked.file.read_text()


def test_a_wheel_is_taken_in_place_of_the_source_where_that_is_asked_for(site: Site, index: Index) -> None:
    """Each is kept by its own name: going from one to the other is no other thing under the same name."""
    index.put("shop", "shop-1.2.tar.gz", tar())
    index.add("shop", "1.2", "django>=5", "celery")
    source = site.deploy("shop==1.2", index_url=index.url)
    built = site.deploy("shop==1.2", "wheel", index_url=index.url)
    assert built.exact != source.exact
    assert (built.folder / "shop-1.2.dist-info/METADATA").is_file()
    assert not list(source.folder.glob("*.dist-info"))
    assert site.deploy("shop==1.2", "wheel", index_url=index.url).exact == built.exact
    assert site.deploy("shop==1.2", index_url=index.url).exact == source.exact


def test_a_package_that_has_no_wheel_for_every_system_is_refused_where_it_is_asked_for(
    site: Site, index: Index
) -> None:
    index.put("shop", "shop-1.2.tar.gz", tar())
    index.put("shop", "shop-1.2-cp311-cp311-manylinux_2_17_x86_64.whl", b"")
    with pytest.raises(SourceError, match=r"no wheel for every system of shop==1\.2; there is none at all"):
        site.deploy("shop==1.2", "wheel", index_url=index.url)


# ── What a stranger's project may not do ─────────────────────────────────────────────────────────

STATIC = '[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["django", "celery"]\n'
DYNAMIC = """\
[project]
name = "shop"
requires-python = ">=3.11"
dynamic = ["version", "dependencies"]
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
METADATA = "Metadata-Version: 2.2\nName: shop\nVersion: 1.2\nRequires-Dist: django\nRequires-Dist: celery\n"


def version_of(name: str) -> str:
    """Return one that a site works with: of Celery not any that is new."""
    return "5.6" if name == "celery" else "25.6"


def test_nothing_of_a_package_is_run_on_this_computer(site: Site, index: Index, tmp_path: Path) -> None:
    """Its own program would say which packages it needs: it has said so when it was packed, or is not asked."""
    for name in ("django", "celery", "gunicorn", "kombu", "redis", "psycopg"):
        index.add(name, version_of(name))
    trap = f"import pathlib\npathlib.Path({str(tmp_path / 'run')!r}).touch()\n"
    for version, more in (("1.2", {"PKG-INFO": METADATA}), ("1.3", {})):
        files = {"setup.py": trap, "backend.py": trap, "manage.py": trap, "pyproject.toml": DYNAMIC, **more}
        index.put(
            "shop", f"shop-{version}.tar.gz", tar(**{f"shop-{version}__{name}": text for name, text in files.items()})
        )

    def made(source: str) -> str:
        found = site.deploy(source, index_url=index.url)
        wanted = Wanted.from_fact(site.fact(source, index_url=index.url), found.folder)
        return resolve(wanted, site.beside / "site.lock.txt").file.read_text()

    project = tmp_path / "shop-1.4"
    project.mkdir()
    (project / "pyproject.toml").write_text(STATIC)
    command = [find_uv_bin(), "lock", "--quiet", "--python", sys.executable]
    subprocess.run(command, cwd=project, env=os.environ | {"UV_DEFAULT_INDEX": index.url}, check=True)
    files = {"backend.py": trap, "pyproject.toml": DYNAMIC, "uv.lock": (project / "uv.lock").read_text()}
    index.put("shop", "shop-1.4.tar.gz", tar(**{f"shop-1.4__{name}": text for name, text in files.items()}))

    half = DYNAMIC.replace('"dependencies"]', '"optional-dependencies"]\ndependencies = ["django", "celery"]')
    index.put("shop", "shop-1.5.tar.gz", tar(**{"shop-1.5__backend.py": trap, "shop-1.5__pyproject.toml": half}))

    for version in ("1.2", "1.4", "1.5"):
        assert "django==25.6" in made(f"shop=={version}")
    with pytest.raises(LockError, match="leaves it to a program of its own") as refused:
        made("shop==1.3")
    assert "site_lock: " in refused.value.remedy
    assert not (tmp_path / "run").exists()


def test_an_archive_is_unpacked_as_it_was_packed(site: Site) -> None:
    (site.beside / "shop-1.2.tar.gz").write_bytes(
        tar(
            a=entry("shop-1.2/manage.py", mode=0o755),
            b=entry("shop-1.2/again", tarfile.SYMTYPE, "app"),
            c=entry("shop-1.2/app/models.py"),
        )
    )
    folder = site.deploy("shop-1.2.tar.gz").folder
    assert (folder / "again").is_symlink()
    assert (folder / "again/models.py").read_text() == "x"
    assert [bool((folder / name).stat().st_mode & 0o100) for name in ("manage.py", "app/models.py")] == [True, False]
    assert site.kept == ""
    assert set(read_source(folder).files) == {"manage.py", "again", "app/models.py"}

    with zipfile.ZipFile(site.beside / "shop.zip", "w") as file:
        file.writestr("manage.py", "x")
        link = zipfile.ZipInfo("again")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "manage.py")
    folder = site.deploy(str(site.beside / "shop.zip")).folder
    assert (folder / "again").readlink() == Path("manage.py")


BAD = {
    "above": [entry("../escaped")],
    "above, in the middle": [entry("app/../../escaped")],
    "absolute": [entry("{}/escaped")],
    "through a link": [entry("out", tarfile.SYMTYPE, "{}"), entry("out/escaped")],
    "through a link that comes later": [entry("out/escaped"), entry("out", tarfile.SYMTYPE, "{}")],
    "link to a file of this computer": [entry("secret", tarfile.SYMTYPE, "/etc/hostname")],
    "link above": [entry("secret", tarfile.SYMTYPE, "../../../../secret")],
    "link above by a detour": [
        entry("a/b/c"),
        entry("here", tarfile.SYMTYPE, "."),
        entry("secret", tarfile.SYMTYPE, "here/here/../../secret"),
    ],
    "hard link": [entry("passwd", tarfile.LNKTYPE, "/etc/passwd")],
    "device": [entry("null", tarfile.CHRTYPE)],
    "pipe": [entry("pipe", tarfile.FIFOTYPE)],
    "twice": [entry("manage.py"), entry("manage.py")],
}


@pytest.mark.parametrize("case", BAD)
def test_what_would_not_be_a_file_of_the_project_is_refused(site: Site, tmp_path: Path, case: str, cache: Path) -> None:
    (tmp_path / "secret").touch()
    entries = {str(number): each for number, each in enumerate(BAD[case])}
    for each in entries.values():
        each.name, each.linkname = each.name.format(tmp_path), each.linkname.format(tmp_path)
    (site.beside / "shop.tar.gz").write_bytes(tar(**entries))
    with pytest.raises(SourceError):
        site.deploy("shop.tar.gz")
    assert not [*tmp_path.rglob("escaped")]
    assert [path.name for path in cache.glob("celeriac/sources/*")] == ["lock"]


@pytest.mark.parametrize(
    "content", [b"", b"no archive", tar(**{"manage.py": "x" * 5000})[:-20]], ids=["empty", "text", "cut off"]
)
def test_what_is_no_whole_archive_is_refused(site: Site, content: bytes) -> None:
    (site.beside / "shop.tar.gz").write_bytes(content)
    with pytest.raises(SourceError, match=r"shop\.tar\.gz cannot be unpacked"):
        site.deploy("shop.tar.gz")


# ── Repositories ─────────────────────────────────────────────────────────────────────────────────


class Repository:
    """A repository of git on this computer.

    Attributes:
        folder: where its people work.
        url: where it is to be had.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"file://{folder}"
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("first")
        self.git("tag", "v1.2")

    def git(self, *arguments: str) -> str:
        """What git prints."""
        return subprocess.check_output(["git", *PEOPLE, "-C", self.folder, *arguments], text=True).strip()

    def commit(self, text: str) -> str:
        """Commit a change; return its name."""
        (self.folder / "manage.py").write_text(text)
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", text)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with one commit, which is v1.2."""
    return Repository(tmp_path / "repository")


def text_of(found: Fetched) -> str:
    """What is in the file that each commit changes."""
    return (found.folder / "manage.py").read_text()


def test_each_name_of_a_commit_is_known(site: Site, repository: Repository) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.git("tag", "--annotate", "--message", "signed", "v1.2.1")
    repository.commit("second")
    for version in ("v1.2", "v1.2.1", first, first[:10]):
        found = site.deploy(repository.url, version)
        assert text_of(found) == "first"
        assert found.exact and found.exact.digest == first
    for version in ("main", ""):
        assert text_of(site.deploy(repository.url, version)) == "second"
    with pytest.raises(SourceError, match=r"has no branch, tag or commit v9") as refused:
        site.deploy(repository.url, "v9")
    assert refused.value.remedy.startswith("site_source_version: ")


def test_what_is_shipped_of_a_repository_is_what_it_tracks(site: Site, repository: Repository) -> None:
    (repository.folder / ".env").write_text("DEBUG=")
    commit = repository.commit("with an environment")
    found = site.deploy(repository.url, "main")
    assert set(read_source(found.folder).files) == {".env", "manage.py"}
    assert note_of(found, site.fact(repository.url, "main")) == {
        "commit": commit[:12],
        "source": f"{repository.url} main = branch {commit}",
    }


def test_a_branch_is_asked_again_and_all_hosts_of_a_run_get_one_commit(
    site: Site, repository: Repository, cache: Path
) -> None:
    before = site.deploy(repository.url, "main")
    commit = repository.commit("second")
    assert text_of(fetched(site.fact(repository.url, "main"))) == "first"
    shutil.rmtree(cache)
    assert text_of(fetched(site.fact(repository.url, "main"))) == "first"
    after = site.deploy(repository.url, "main")
    assert text_of(after) == "second"
    assert before.exact and f"main is branch {commit[:12]} (it was {before.exact.digest[:12]})" in after.remark


def test_a_tag_that_was_moved_is_refused(site: Site, repository: Repository, cache: Path) -> None:
    site.deploy(repository.url, "v1.2")
    repository.commit("second")
    repository.git("tag", "--force", "v1.2")
    assert text_of(site.deploy(repository.url, "v1.2")) == "first"

    shutil.rmtree(cache)
    with pytest.raises(SourceError, match=r"v1\.2 is another thing than it was"):
        site.deploy(repository.url, "v1.2")
    assert text_of(site.deploy(repository.url, "v1.2", anew=True)) == "second"


def test_a_look_writes_nothing_beside_the_inventory(site: Site, repository: Repository) -> None:
    assert text_of(fetched(site.fact(repository.url, "main"), ask=True)) == "first"
    assert site.kept == ""


def test_a_link_of_a_repository_that_leads_out_is_refused(site: Site, repository: Repository) -> None:
    """What is behind such a link in a folder of the operator's own is shipped: a stranger's may lead to a key."""
    (repository.folder / "key").symlink_to("/etc/hostname")
    repository.commit("second")
    with pytest.raises(SourceError, match="key in it is a link to /etc/hostname"):
        site.deploy(repository.url, "main")


def test_submodules_come_with_it(
    site: Site, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Repository(tmp_path / "library")
    # For those of git itself it has to be allowed to take them from a folder.
    allowed = {"COUNT": "1", "KEY_0": "protocol.file.allow", "VALUE_0": "always"}
    for name, value in allowed.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    repository.git("submodule", "--quiet", "add", "../library", "lib")
    repository.commit("with a library")
    assert "lib/manage.py" in read_source(site.deploy(repository.url, "main").folder).files


def test_a_password_of_a_repository_is_in_the_environment_alone(
    site: Site, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    program, seen = tmp_path / "bin/git", tmp_path / "seen"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {seen}\nenv | grep -c "^GIT_CONFIG_VALUE_1=Authorization: Basic" >> {seen}.headers\n'
        f'exec {shutil.which("git")} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{Path('/usr/bin')}:/bin")
    instead = {
        "COUNT": "1",
        "KEY_0": f"url.{repository.url}.insteadOf",
        "VALUE_0": "https://git.mysite.test/me/site.git",
    }
    for name, value in instead.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)

    source = f"https://reader:{TOKEN}@git.mysite.test/me/site.git"
    found = site.deploy(source, "v1.2")
    assert text_of(found) == "first"
    assert "fetch" in seen.read_text()
    assert "1" in Path(f"{seen}.headers").read_text().split()
    said = [seen.read_text(), site.kept, found.remark, str(note_of(found, site.fact(source, "v1.2")))]
    said += [path.read_text(errors="replace") for path in cache.rglob("config")]
    with pytest.raises(SourceError) as refused:
        site.deploy(source, "v9")
    said.append(f"{refused.value} {refused.value.remedy}")
    assert TOKEN not in " ".join(said)
    assert "https://git.mysite.test/me/site.git v1.2 = tag" in site.kept


def test_who_has_no_key_is_not_asked_for_a_password(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho "Permission denied (publickey)." >&2\nexit 255\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    with pytest.raises(SourceError, match="Permission denied") as refused:
        site.deploy("git@git.mysite.test:me/site.git")
    assert "BatchMode=yes" in (tmp_path / "asked").read_text()
    assert "git ls-remote git@git.mysite.test:me/site.git" in refused.value.remedy


# ── A run ────────────────────────────────────────────────────────────────────────────────────────

MODULES = "site_settings_module: manage\nsite_celery_app: manage\nsite_wsgi_application: wsgi:application\n"


def of_the_example(folder: Path, index: Index) -> None:
    """A project whose lock has all."""
    needed = ("django", "celery", "redis", "gunicorn", "flower", "psycopg")
    for name in needed:
        index.add(name, version_of(name))
    (folder / "wsgi.py").touch()
    (folder / "requirements.txt").write_text("".join(index.hashed(name, version_of(name)) for name in needed))


def test_preflight_looks_at_what_it_has_fetched(
    inventory: Any, index: Index, repository: Repository, ansible_playbook: Callable[..., Any]
) -> None:
    inventory.choose(f"site_source: {repository.url}\nsite_source_version: main\n{MODULES}")
    run = ansible_playbook("playbooks/preflight.yml", "-i", inventory.folder)
    assert "has no module `wsgi`" in run.stdout, run.stdout
    assert "it is not known which packages it needs" in run.stdout
    assert "No host was touched" in run.stdout

    of_the_example(repository.folder, index)
    commit = repository.commit("with a lock")
    looked = ansible_playbook("playbooks/preflight.yml", "-i", inventory.folder, "--check")
    assert f"{repository.url} main is branch {commit[:12]}" in looked.stdout, looked.stdout
    kept = inventory.folder / "site.source.txt"
    before = kept.read_text()
    assert commit not in before

    run = ansible_playbook("playbooks/preflight.yml", "-i", inventory.folder)
    assert "No host was touched" not in run.stdout, run.stdout
    assert commit in kept.read_text()


def test_a_source_that_is_not_to_be_had_is_one_message(inventory: Any, ansible_playbook: Callable[..., Any]) -> None:
    inventory.choose(f"site_source: .files/shop-1.2.tar.gz\n{MODULES}")
    run = ansible_playbook("playbooks/preflight.yml", "-i", inventory.folder)
    assert run.returncode != 0
    assert "The inventory has one problem. No host was touched." in run.stdout, run.stdout
    assert f"{inventory.folder}/.files/shop-1.2.tar.gz, and there is no such file" in run.stdout
    assert "main.yml:3" in run.stdout

    # A rollback makes nothing, and asks nobody.
    run = ansible_playbook("playbooks/rollback.yml", "-i", inventory.folder)
    assert "no such file" not in run.stdout, run.stdout
