"""A release, made on a host: one directory with the code, its virtualenv and its static files, written once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.celeriac.site.plugins.module_utils.site_choices import Choices
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import ReleaseError
from ansible_collections.celeriac.site.plugins.module_utils.site_files import link_atomically, write_atomically
from ansible_collections.celeriac.site.plugins.module_utils.site_hooks import Hook, shown
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Shipment, Site
from ansible_collections.celeriac.site.plugins.module_utils.site_points import NOTE as POINT
from ansible_collections.celeriac.site.plugins.module_utils.site_points import Points
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Run

# Where a release has files of the inventory that are another for the account that owns it than for the processes.
OF_OWNER = "owner"
# A fixed name: a build left behind by a run that was killed is found by it, and ended before the
# next one begins.
STEP_UNIT = "site-release.service"
PYTHON = "/usr/bin/python3"
# Debian's store, which has the extra CA certificates of the host; uv would look at its own
# otherwise.
CA_STORE = "/etc/ssl/certs/ca-certificates.crt"

# What a release goes through, by when it is checked (`site_check`); before a hook that comes before the migrations,
# those in front of them.
CHECKED = {
    "before_migrate": ("check", "import", "queues", "broker", "commands", "migrate", "note", "static", "admin"),
    "after_migrate": ("import", "queues", "broker", "commands", "migrate", "check", "note", "static", "admin"),
    "never": ("import", "queues", "broker", "commands", "migrate", "note", "static", "admin"),
}
MIGRATIONS = "migrations.json"
# What a release says of itself when it is made; and before that, when it is built: the code, its virtualenv, and what
# the operator's commands have made.
NOTE, BUILT = "release.json", "built.json"
# The processes cannot write into the release, so what they import is compiled now.
COMPILE = "--compile-bytecode"
UV_PIP_SYNC = ["pip", "sync", "--quiet", "--require-hashes", COMPILE]
# Where a release comes with its wheels.
FROM_WHEELS = ["--no-index", "--find-links"]
UV_PIP_INSTALL = ["pip", "install", "--quiet", "--offline", "--no-deps", COMPILE]


# Where the Python of the host, which runs this too, has its packages.
OWN = "python{}.{}".format(*sys.version_info)

# How long static files outlive their release.
STATIC_GRACE_SECONDS = 24 * 3600
# How Django's manifest storage marks a name: the beginning of the MD5 of the content, in front of the extension
# (https://docs.djangoproject.com/en/5.2/ref/contrib/staticfiles/#manifeststaticfilesstorage).
MARK = re.compile(r"\.([0-9a-f]{12})(?=\.[^.]*$|$)")
# Django's own list of those names; nobody need read it.
MANIFEST = "staticfiles.json"

# How much uv's cache may hold that no release has. What a release has is a link, and takes no room of its own.
CACHE_BYTES = 512 * 2**20

# Behind the virtualenv of its release, where a hook finds its program.
PATH = "/usr/local/bin:/usr/bin:/bin"
# How long a hook that is over its time has to end by itself.
HOOK_STOP_SECONDS = 5

# Of what a failed command printed: enough for a traceback, and no more than a person reads.
LINES_SHOWN = 80


class Releases:
    """The folders of a site on a host, and the commands that fill them.

    Args:
        run: to run commands.
        site: whose folders they are.
    """

    def __init__(self, run: Run, site: Site) -> None:
        self._run = run
        self._site = site
        self.root = Path(site.root)
        self.folder = self.root / "releases"
        # Each is served below /static/, the first one first: names that say what is in the file, and all others.
        self.immutable = self.root / "immutable" / "static"
        self.static = self.root / "static"
        self.cache = self.root / "cache"
        # What virtualenvs are made from, where hosts ask no index.
        self.wheels = self.root / "wheels"
        self.current = self.root / "current"
        self.points = Points(self.root)
        self.choices = Choices(site.environment_files, self.root / "prepared")
        self.owner = f"{site.owner}:{site.group}"  # as chown(1) has it

    def path(self, release: str) -> Path:
        """Return the directory of a release, whether it is there or not."""
        return self.folder / release

    def is_made(self, release: str) -> bool:
        """Say whether the release is complete, for the Python that was chosen for it, or the one that the host has now.

        Its note is the last thing that is written. An upgrade of the host to the next Debian leaves its packages
        behind, in the folder of a Python that is gone.
        """
        pythons = (self.path(release) / "venv/lib").glob("python*")
        wanted = self.note(release).get("python") or OWN
        return (self.path(release) / NOTE).exists() and all(python.name == wanted for python in pythons)

    def note(self, release: str) -> dict[str, Any]:
        """Return what a release says of itself, nothing where it is not made."""
        return self._read(self.path(release) / NOTE)

    def built(self, release: str) -> dict[str, Any]:
        """Return from what a release was built that need not be made yet, nothing where it is not whole."""
        return self._read(self.path(release) / BUILT)

    def _read(self, file: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found

    def migrations(self, release: str) -> set[str]:
        """Return the migrations that a release knows; none where it has not written them down."""
        file = self.path(release) / MIGRATIONS
        return set(json.loads(file.read_text())) if file.exists() else set()

    def make_folders(self) -> None:
        """Make what a first release needs."""
        owner = self._site.owner, self._site.group
        nobody_else = "root", "root"
        for path, mode, (user, group) in (
            (self.root, 0o755, nobody_else),
            (self.folder, 0o750, owner),
            (self.cache, 0o700, owner),
            (self.immutable.parent, 0o755, nobody_else),
            (self.immutable, 0o755, nobody_else),
            (self.static, 0o755, nobody_else),
        ):
            path.mkdir(mode=mode, exist_ok=True)
            path.chmod(mode)
            shutil.chown(path, user, group)

    def digests(self) -> dict[str, str]:
        """Return the digests of the wheels that are here, by their names."""
        return {
            path.name: f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in self.wheels.glob("*.whl")
        }

    def take_wheels(self, folder: Path) -> None:
        """Put the wheels of a folder, which may not be there, to those that are here."""
        if not folder.is_dir():
            return
        self.wheels.mkdir(exist_ok=True)
        self.wheels.chmod(0o755)
        for path in folder.iterdir():
            path.chmod(0o644)
            path.replace(self.wheels / path.name)
        folder.rmdir()

    def keep_wheels(self, names: Iterable[str]) -> None:
        """Remove all wheels but these: what was made from the others needs them no more."""
        kept = set(names)
        for path in [*self.wheels.glob("*.whl")]:
            if path.name not in kept:
                path.unlink()

    def remove_unfinished(self) -> None:
        """End a build that a run left behind when it was killed, and take away what it made, unless that is whole."""
        self._run(["systemctl", "stop", STEP_UNIT])
        for path in self._unmade():
            # What it has migrated stays.
            self.points.take(path)
            (path / POINT).unlink(missing_ok=True)
            if not (path / BUILT).exists():
                shutil.rmtree(path)

    def _unmade(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if not (path / NOTE).exists()]

    def remove_built(self, *, but: str) -> None:
        """Remove what was built and did not pass, but for one release: the next run may take that up."""
        for path in self._unmade():
            if path.name != but:
                shutil.rmtree(path)

    def give_up(self, release: str) -> None:
        """Take from a release that did not pass all but what was built; all of it, where that is not whole.

        Where a process uses it, it stays until the next deploy.
        """
        path = self.path(release)
        if not (path / BUILT).exists():
            self.remove([release])
        elif not in_use(path):
            (path / NOTE).unlink(missing_ok=True)
            (path / POINT).unlink(missing_ok=True)
            shutil.rmtree(path / "static", ignore_errors=True)
            self._unpublish()

    def environment_digest(self) -> str:
        """Return a digest of what the commands of an operator are told by environment."""
        return hashlib.sha256(b"\0".join(file.read_bytes() for file in self._site.environment_files)).hexdigest()

    def prepare(self, release: str, steps: Sequence[str], more: dict[str, str] | None = None) -> str:
        """Run steps of `celeriac.release` in a release.

        Args:
            release: which.
            steps: which.
            more: environment beside that of the site.

        Returns:
            What they printed.

        Raises:
            ReleaseError: a step failed.
        """
        environment = {
            **self._environment_of(release),
            "CELERIAC_MIGRATIONS_FILE": f"{self.path(release)}/{MIGRATIONS}",
            **(more or {}),
        }
        python = f"{self.path(release)}/venv/bin/python"
        return self.run(release, [python, "-m", "celeriac.release", *steps], environment, self._environment_files())

    def run_hook(self, release: str, hook: Hook, more: dict[str, str]) -> None:
        """Run a command of the operator in a release, as its steps are run.

        Args:
            release: which.
            hook: the command, and how long it may take.
            more: environment beside that of the site.

        Raises:
            ReleaseError: it failed, or did not end in its time; the message ends with what it printed.
        """
        limits = [f"RuntimeMaxSec={hook.timeout_seconds}", f"TimeoutStopSec={HOOK_STOP_SECONDS}"]
        began = time.monotonic()
        code, output = self._run_command(release, hook.command, more, limits)
        if code == 0:
            return
        # systemd-run does not say which of the two it was.
        is_over = time.monotonic() - began >= hook.timeout_seconds
        how = f"did not end in {hook.timeout_seconds} s" if is_over else f"ended with status {code}"
        raise ReleaseError(f"{hook.name} {how}.\n{output}")

    def run_build_command(self, release: str, words: tuple[str, ...]) -> None:
        """Run a command of the operator that builds a part of a release.

        Args:
            release: which.
            words: the command; no shell reads them.

        Raises:
            ReleaseError: it failed; the message ends with what it printed.
        """
        # Files of the virtualenv may be those of another release, too.
        code, output = self._run_command(release, words, {}, [f"ReadOnlyPaths={self.path(release)}/venv"])
        if code != 0:
            raise ReleaseError(f"{shown(words)} ended with status {code}.\n{output}")

    def _run_command(
        self, release: str, words: tuple[str, ...], more: dict[str, str], properties: list[str]
    ) -> tuple[int, str]:
        """Run a command of the operator in a release, as its steps are run; return its status and what it printed."""
        environment = {**self._environment_of(release), "PATH": f"{self.path(release)}/venv/bin:{PATH}", **more}
        # env(1) finds the program in the release; systemd-run would look for it with the PATH of this process.
        command = ["/usr/bin/env", "--", *words]
        return self._run_transient(release, command, environment, [*self._environment_files(), *properties])

    def _environment_of(self, release: str) -> dict[str, str]:
        """Return what the code of a release needs to be run beside the environment of the site."""
        return {
            "PYTHONPATH": f"{self.path(release)}/{self._site.code}",
            "STATIC_ROOT": f"{self.path(release)}/static",
            "CELERIAC_RELEASE": release,
        }

    @property
    def python(self) -> str:
        """Return the interpreter of the releases that are made now."""
        return str(self._site.python)

    @property
    def python_version(self) -> str:
        """Return its version."""
        return self._run([self.python, "--version"])[1].strip()

    def _environment_files(self) -> list[str]:
        return [f"EnvironmentFile={path}" for path in self._site.environment_files]

    def call(self, *command: str) -> None:
        """Run a command as root.

        Raises:
            ReleaseError: it failed.
        """
        code, output, error = self._run(list(command))
        if code != 0:
            raise ReleaseError(f"{command[0]} failed: {shortened(error or output)}")

    def run(
        self,
        release: str,
        command: list[str],
        environment: dict[str, str] | None = None,
        properties: list[str] | None = None,
    ) -> str:
        """Run a command as the owner of the releases, in a transient unit that may write below the root only.

        Returns:
            What it printed.

        Raises:
            ReleaseError: it failed; the message ends with what it printed.
        """
        code, output = self._run_transient(release, command, environment or {}, properties or [])
        if code != 0:
            raise ReleaseError(f"{Path(command[0]).name} {' '.join(command[1:3])} failed.\n{output}")
        return output

    def _run_transient(
        self, release: str, command: list[str], environment: dict[str, str], properties: list[str]
    ) -> tuple[int, str]:
        """Run a command in a transient unit, and return its status and what it printed, without secrets."""
        variables = {
            "UV_CACHE_DIR": str(self.cache),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_CONFIG": "1",
            "SSL_CERT_FILE": CA_STORE,
            "HOME": str(self.cache),
            **environment,
        }
        settings = [
            f"User={self._site.owner}",
            f"WorkingDirectory={self.path(release) / self._site.code}",
            "UMask=0027",
            "ProtectSystem=strict",
            f"ReadWritePaths={self.root}",
            "PrivateTmp=yes",
            "NoNewPrivileges=yes",
            # What serves is more urgent than what is being built.
            "Nice=10",
            "IOSchedulingClass=idle",
            *self._own_files(release),
            *properties,
        ]
        code, output, error = self._run(
            ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={STEP_UNIT}"]
            + [f"--property={setting}" for setting in settings]
            + [f"--setenv={name}={value}" for name, value in variables.items()]
            # systemd puts variables into the words of a command; `$$` is `$`.
            + ["--", *(word.replace("$", "$$") for word in command)]
        )
        return code, self.choices.concealed(shortened(output + error))

    def _own_files(self, release: str) -> list[str]:
        """Let the owner read its own version of a file in place of that of the processes."""
        folder = self.path(release) / OF_OWNER
        files = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
        return [f"BindReadOnlyPaths={folder / file}:{self.path(release)}/app/{file}" for file in files]

    def publish(self, release: str) -> None:
        """Let nginx serve the release's static files whose names say what is in them.

        Such a name means the same in every release: it may be there before the release has passed, and
        browsers may keep it for ever.
        """
        for path, target in self._served(release):
            if target.is_relative_to(self.immutable):
                _link(path, target)

    def show(self, release: str) -> None:
        """Let nginx serve the release's other static files, in place of those that bear their names."""
        for path, target in self._served(release):
            if target.is_relative_to(self.static):
                _link(path, target)

    def shows(self, release: str) -> bool:
        """Say whether what nginx serves of the names of a release is what the release has."""
        return all(
            target.exists() and (target.is_relative_to(self.immutable) or target.samefile(path))
            for path, target in self._served(release)
        )

    def _served(self, release: str) -> Iterator[tuple[Path, Path]]:
        """Yield each static file of a release with the place from which nginx serves it."""
        source = self.path(release) / "static"
        for path in static_files(source):
            yield path, (self.immutable if says_its_content(path) else self.static) / path.relative_to(source)

    def make_current(self, release: str) -> None:
        """Let `current` point to a release, for people."""
        link_atomically(self.current, f"releases/{release}")

    def remove(self, releases: Iterable[str]) -> None:
        """Remove releases, but none that a process uses: it may import more."""
        for release in releases:
            if not in_use(self.path(release)):
                shutil.rmtree(self.path(release), ignore_errors=True)
        self._unpublish()

    def _unpublish(self) -> None:
        """Remove static files that no release has had for a day.

        A page that was rendered by a release just before it went, or was undone, still finds its files.
        """
        before = time.time() - STATIC_GRACE_SECONDS
        wanted = {target for release in self.folder.iterdir() for _, target in self._served(release.name)}
        for path in (path for folder in (self.static, self.immutable) for path in list(folder.rglob("*"))):
            # A release that goes takes a link of the file away, which is a change of the file's status.
            if path.is_file() and path not in wanted and path.lstat().st_ctime < before:
                path.unlink()

    def prune_cache(self) -> None:
        """Empty uv's cache where it holds too much that no release has: what is needed again is fetched again."""
        found = [path.lstat() for path in self.cache.rglob("*")]
        unshared = [each for each in found if stat.S_ISREG(each.st_mode) and each.st_nlink == 1]
        if sum(512 * each.st_blocks for each in unshared) > CACHE_BYTES:
            shutil.rmtree(self.cache)
            self.make_folders()

    def old(self, keep: list[str], kept: int) -> list[str]:
        """Return the releases that may go, the oldest first.

        Args:
            keep: releases that stay.
            kept: how many stay in all.
        """
        made = sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime)
        others = [path.name for path in made if path.name not in keep]
        return others[: max(0, len(made) - kept)]


class Build:
    """One release being made.

    Args:
        releases: the folders, and the commands.
        release: its name.
        shipment: what it is made from.
    """

    def __init__(self, releases: Releases, release: str, shipment: Shipment) -> None:
        self._releases = releases
        self._name = release
        self._shipment = shipment
        self._path: Path = releases.path(release)
        self._made = releases.is_made(release)
        version = shipment.uv_requirements.split()[0].replace("==", "-")
        self._lock = self._path / "requirements.txt"
        self._uv = releases.root / "tools" / version / "bin" / "uv"

    def fetch(self) -> None:
        """Unpack the archive."""
        if self.is_built():
            if not self._made:
                # Of a run that was killed: a file may be there in part.
                shutil.rmtree(self._path / "static", ignore_errors=True)
            return
        shutil.rmtree(self._path, ignore_errors=True)  # there may be one for another Python
        self._path.mkdir()
        folder, archive = str(self._path), str(self._shipment.archive)
        owner = self._releases.owner
        self._releases.call("tar", "--extract", "--no-same-owner", "--directory", folder, "--file", archive)
        self._releases.take_wheels(self._path / "wheels")
        # Only the group of the processes may read the code; nobody but the owner may write it.
        self._releases.call("chown", "--recursive", owner, folder)
        self._releases.call("chmod", "--recursive", "u=rwX,g=rX,o=", folder)

    def build(self) -> None:
        """Make the virtualenv, from the lock file alone, and what the operator's commands make."""
        if self.is_built():
            return
        self._make_virtualenv()
        for words in self._shipment.build_commands:
            self._releases.run_build_command(self._name, words)
        self._note(BUILT, self._as_built())

    def is_built(self) -> bool:
        """Say whether nothing is to be built: it is made, or a run that failed later has left the same."""
        found = self._releases.built(self._name)
        return self._made or (bool(found) and found == self._as_built())

    def _as_built(self) -> dict[str, str]:
        """Return what decides how a release is built beside its name, which is that of its code."""
        # What commands have made may depend on what they were told.
        told = self._releases.environment_digest() if self._shipment.build_commands else ""
        return {"python": self._releases.python, "virtualenv": self._virtualenv_digest(), "told": told}

    def _note(self, name: str, content: dict[str, Any]) -> None:
        """Write down what is whole.

        It is never looked at again. Without this the note could outlive a power cut that leaves the files as names
        without contents.
        """
        self._releases.call("sync", "--file-system", str(self._path))
        write_atomically(self._path / name, (json.dumps(content, indent=2) + "\n").encode())

    def _make_virtualenv(self) -> None:
        self._make_uv()
        uv, venv = str(self._uv), str(self._path / "venv")
        if same := self._one_with_the_same_virtualenv():
            # Links to its files: what the other release may not change, this one may not either. (On
            # another file system, to which a link cannot lead, they are copied.)
            link = "--link" if same.stat().st_dev == self._path.stat().st_dev else "--reflink=auto"
            self._releases.call("cp", "--archive", link, str(same), venv)
            return
        into = {"VIRTUAL_ENV": venv}
        # In a file that only root may read: everybody may see the environment that a transient unit is told of.
        indexes = [f"EnvironmentFile={self._shipment.index_environment_file}"]
        run = self._releases.run
        # Relocatable: its programs find their Python beside them, also where it was copied to.
        run(self._name, [uv, "venv", "--quiet", "--relocatable", "--python", self._releases.python, venv])
        run(self._name, [uv, *UV_PIP_SYNC, *self._from_wheels, str(self._lock)], into, indexes)
        run(self._name, [uv, *UV_PIP_INSTALL, str(self._path / "runtime")], into)
        # uv makes it writable for everybody, and needs it no more.
        (self._path / "venv" / ".lock").unlink(missing_ok=True)

    def _one_with_the_same_virtualenv(self) -> Path | None:
        """Return the virtualenv of another release that was made from the same, None where there is none."""
        wanted = self._virtualenv_digest()
        for path in self._releases.folder.iterdir():
            found = self._releases.note(path.name) or self._releases.built(path.name)
            if found.get("virtualenv") == wanted:
                return path / "venv"
        return None

    def _virtualenv_digest(self) -> str:
        """Return a digest of all that the virtualenv is made from."""
        files = [self._lock, *sorted((self._path / "runtime").rglob("*"))]
        digest = hashlib.sha256(f"{self._uv} {self._releases.python_version}".encode())
        for file in files:
            if file.is_file():
                digest.update(f"{file.relative_to(self._path)} {file.stat().st_size} ".encode() + file.read_bytes())
        return digest.hexdigest()

    def _make_uv(self) -> None:
        if not self._uv.exists():
            self._install_uv()
        # The owner of the releases runs it, whatever umask it was made with.
        self._releases.call("chmod", "--recursive", "u=rwX,go=rX", str(self._uv.parents[2]))

    def _install_uv(self) -> None:
        folder = self._uv.parent.parent
        building = folder.with_name(f".{folder.name}")
        shutil.rmtree(building, ignore_errors=True)
        building.parent.mkdir(exist_ok=True)
        self._releases.call(PYTHON, "-m", "venv", str(building))
        requirements = building / "requirements.txt"
        requirements.write_text(self._shipment.uv_requirements)
        pip = [f"{building}/bin/python", "-m", "pip", "--quiet", "--cert", CA_STORE, "install"]
        self._releases.call(*pip, *self._from_wheels, "--require-hashes", "--requirement", str(requirements))
        building.rename(folder)

    @property
    def _from_wheels(self) -> list[str]:
        """Return what tells pip, and uv as well, to ask no index, where the wheels are here."""
        return [*FROM_WHEELS, str(self._releases.wheels)] if self._shipment.wheels else []

    def check(self) -> None:
        """Do what comes before the migrations, which changes nothing."""
        steps = CHECKED[self._shipment.check]
        self._releases.prepare(self._name, steps[: steps.index("migrate")])

    def prepare(self, *, beside: bool, point: str) -> None:
        """Check, import, migrate, collect; what is complete after that says so.

        Args:
            beside: another release serves meanwhile, which the migrations must not hurt.
            point: what the moment before the migrations is called, where there are any; empty without backups.
        """
        choices = self._releases.choices
        more = {"CELERIAC_ADMIN_PASSWORD_IS_NEW": "yes"} if choices.admin_password_is_new() else {}
        if beside and self._shipment.rehearsal_database:
            more["CELERIAC_REHEARSAL_DATABASE"] = self._shipment.rehearsal_database
        if point:
            more |= {"CELERIAC_RESTORE_POINT": point, "CELERIAC_RESTORE_POINT_FILE": str(self._path / POINT)}
            more |= {"CELERIAC_WAY_BACK": "yes"} if self._shipment.way_back else {}
        self._releases.prepare(self._name, CHECKED[self._shipment.check], more)
        choices.note()
        if not self._made:
            note = {
                "release": self._name,
                "made": f"{datetime.now(UTC):%FT%TZ}",
                "virtualenv": self._virtualenv_digest(),
                # The host's own may be another one day, and then the release is made anew.
                **({"python": Path(self._releases.python).name} if self._releases.python != PYTHON else {}),
                **self._shipment.origin,
            }
            self._note(NOTE, note)

    def prune(self) -> None:
        """Remove each uv but the one that made this release, and other wheels: a release that is made needs none."""
        self._releases.keep_wheels(self._shipment.wheels)
        mine = self._uv.parents[1]
        if not mine.exists():
            return
        for folder in (*mine.parent.glob("uv-*"), *mine.parent.glob(".uv-*")):
            if folder != mine:
                shutil.rmtree(folder)


def static_files(folder: Path) -> Iterator[Path]:
    """Yield what nginx serves of a folder, without symlinks: they could lead anywhere on the host."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name != MANIFEST:
            yield path


def says_its_content(path: Path) -> bool:
    """Say whether the name of a file carries the hash of what is in it: other content has another name.

    What the storage of a project puts into names itself, a version say, is not taken for it.
    """
    mark = MARK.search(path.name)
    return bool(mark and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest().startswith(mark[1]))


def _link(path: Path, target: Path) -> None:
    """Let a file that everybody may read be there under another name, whatever bore that name."""
    if target.exists() and target.samefile(path):
        return  # to rename one link over another of the same file does nothing
    for folder in reversed([parent for parent in target.parents if not parent.exists()]):
        folder.mkdir()
        folder.chmod(0o755)
    temporary = target.with_name(f".{target.name}.new")
    temporary.unlink(missing_ok=True)
    os.link(path, temporary)
    temporary.chmod(0o644)
    temporary.replace(target)


def shortened(text: str) -> str:
    """Return what a command printed, without the middle where it is long."""
    lines = text.strip().splitlines()
    half = LINES_SHOWN // 2
    if len(lines) > LINES_SHOWN:
        lines = [*lines[:half], f"… {len(lines) - LINES_SHOWN} lines …", *lines[-half:]]
    return "\n".join(lines)


def in_use(release: Path) -> bool:
    """Say whether a process runs in, or from, this release."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command_line = (process / "cmdline").read_text(errors="replace")
            if str(release) in f"{(process / 'cwd').readlink()} {command_line}":
                return True
    return False
