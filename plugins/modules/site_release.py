#!/usr/bin/python
"""Make a release on a host, and make it the current one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: site_release
short_description: A release is built, its database migrated, and it is the current one
description:
  - One round trip does a whole release, in this order, unpack, build the virtualenv, check and
    import everything, migrate, collect
    static files, switch C(current), prune. A failure before the switch takes the new directory away
    and leaves the rest as it was.
  - The action plugin of the same name packs the source and passes O(archive) only when the host
    does not have the release.
  - Everything that runs code of the project runs as O(owner), in a transient unit at low priority.
options:
  release:
    description: Name of the release, made from the contents of the source.
    type: str
    required: true
  archive:
    description:
      - A tar file with the folders C(app) and C(runtime). Without it the module only says what it
        would do.
    type: path
  root:
    description: The folder that holds releases/, static/ and current.
    type: path
    required: true
  owner:
    description: Account that owns the releases, builds them and migrates.
    type: str
    required: true
  group:
    description: Group that may read them, that of the running processes.
    type: str
    required: true
  lock_file:
    description: The lock file of the project, relative to its folder.
    type: str
    required: true
  uv_requirements:
    description: Pinned and hashed requirement lines for uv.
    type: str
    required: true
  environment_files:
    description: EnvironmentFiles for the project's own code.
    type: list
    elements: path
    required: true
  kept:
    description: How many releases to keep.
    type: int
    default: 5
  origin:
    description: What to note about where the release came from, such as a commit.
    type: dict
    default: {}
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The release is the current one
  site_release:
    source: /home/me/project
    root: /srv/site
    owner: site_deploy
    group: site
    lock_file: requirements.txt
    uv_requirements: "{{ lookup('ansible.builtin.file', 'uv.txt') }}"
    environment_files: [/etc/site/environment]
"""

RETURN = r"""
release:
  description: Name of the release.
  returned: always
  type: str
seconds:
  description: How long each step took.
  returned: when the release was made
  type: dict
"""

# A fixed name: a build left behind by a run that was killed is found by it, and ended before the
# next one begins.
STEP_UNIT = "site-release.service"
PYTHON = "/usr/bin/python3"
# Debian's store, which has the extra CA certificates of the host; uv would look at its own
# otherwise.
CA_STORE = "/etc/ssl/certs/ca-certificates.crt"

PREPARE_STEPS = ["check", "import", "migrate", "static", "admin"]
# The processes cannot write into the release, so what they import is compiled now.
COMPILE = "--compile-bytecode"
UV_SYNC = ["sync", "--quiet", "--frozen", "--no-dev", "--no-install-project", COMPILE]
UV_PIP_SYNC = ["pip", "sync", "--quiet", "--require-hashes", COMPILE]
UV_PIP_INSTALL = ["pip", "install", "--quiet", "--offline", "--no-deps", COMPILE]


class ReleaseError(Exception):
    """A step failed; the message says which and how."""


class Site:
    """The folders of a site on a host."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._parameters: dict[str, Any] = module.params
        self.root = Path(self._parameters["root"])
        self.releases = self.root / "releases"
        self.static = self.root / "static"
        self.cache = self.root / "cache"
        self.current = self.root / "current"
        self.name: str = self._parameters["release"]
        self.release = self.releases / self.name
        version = self._parameters["uv_requirements"].split()[0].replace("==", "-")
        self.uv = self.root / "tools" / version / "bin" / "uv"
        self.seconds: dict[str, float] = {}

    # What is there

    def is_made(self) -> bool:
        """Say whether the release is complete: its note is the last thing that is written."""
        return bool((self.release / "release.json").exists())

    def is_current(self) -> bool:
        """Say whether the release is made and the current one."""
        current = self.current.readlink().name if self.current.is_symlink() else ""
        return self.is_made() and current == self.name

    # The transaction

    def make(self) -> None:
        """Do the whole release.

        Raises:
            ReleaseError: a step failed. What was there before is untouched, but for migrations
                that were already applied.
        """
        self._folders()
        with self._locked():
            self._module.run_command(["systemctl", "stop", STEP_UNIT])
            self._remove_unfinished()
            try:
                for step in (
                    self._unpack,
                    self._uv,
                    self._virtualenv,
                    self._prepare,
                    self._publish_static,
                    self._note,
                ):
                    started = time.monotonic()
                    step()
                    self.seconds[step.__name__.strip("_")] = round(time.monotonic() - started, 2)
            except BaseException:
                if not self.is_made():
                    shutil.rmtree(self.release, ignore_errors=True)
                raise
            link = self.root / ".current.new"
            link.unlink(missing_ok=True)
            link.symlink_to(Path("releases") / self.name)
            link.replace(self.current)
            self._prune()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.root / "deploy.lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise ReleaseError(f"another deploy is at work on this host: {lock.read().strip()}") from None
            lock.truncate(0)
            lock.write(f"release {self.name}, since {datetime.now(UTC):%F %T} UTC, pid {os.getpid()}\n")
            lock.flush()
            yield

    def _folders(self) -> None:
        owner = self._parameters["owner"], self._parameters["group"]
        nobody_else = "root", "root"
        for path, mode, (user, group) in (
            (self.root, 0o755, nobody_else),
            (self.releases, 0o750, owner),
            (self.cache, 0o700, owner),
            (self.static, 0o755, nobody_else),
        ):
            path.mkdir(mode=mode, exist_ok=True)
            path.chmod(mode)
            shutil.chown(path, user, group)

    def _remove_unfinished(self) -> None:
        for path in self.releases.iterdir():
            if not (path / "release.json").exists():
                shutil.rmtree(path)

    def _unpack(self) -> None:
        if self.is_made():
            return
        self.release.mkdir()
        folder, archive = str(self.release), self._parameters["archive"]
        owner = f"{self._parameters['owner']}:{self._parameters['group']}"
        self._call("tar", "--extract", "--no-same-owner", "--directory", folder, "--file", archive)
        # Only the group of the processes may read the code; nobody but the owner may write it.
        self._call("chown", "--recursive", owner, folder)
        self._call("chmod", "--recursive", "u=rwX,g=rX,o=", folder)

    def _uv(self) -> None:
        if self.uv.exists():
            return
        folder = self.uv.parent.parent
        building = folder.with_name(f".{folder.name}")
        shutil.rmtree(building, ignore_errors=True)
        building.parent.mkdir(exist_ok=True)
        self._call(PYTHON, "-m", "venv", str(building))
        requirements = building / "requirements.txt"
        requirements.write_text(self._parameters["uv_requirements"])
        pip = [f"{building}/bin/python", "-m", "pip", "--quiet", "--cert", CA_STORE, "install"]
        self._call(*pip, "--require-hashes", "--requirement", str(requirements))
        building.rename(folder)

    def _virtualenv(self) -> None:
        if self.is_made():
            return
        uv, venv = str(self.uv), str(self.release / "venv")
        lock = self.release / "app" / self._parameters["lock_file"]
        into = {"VIRTUAL_ENV": venv, "UV_PROJECT_ENVIRONMENT": venv}
        install = UV_SYNC if lock.name == "uv.lock" else [*UV_PIP_SYNC, str(lock)]
        self._run("virtualenv", [uv, "venv", "--quiet", "--python", PYTHON, venv])
        self._run("virtualenv", [uv, *install], into)
        self._run("runtime", [uv, *UV_PIP_INSTALL, str(self.release / "runtime")], into)
        # uv makes it writable for everybody, and needs it no more.
        (self.release / "venv" / ".lock").unlink(missing_ok=True)

    def _prepare(self) -> None:
        environment = {
            "PYTHONPATH": f"{self.release}/app",
            "STATIC_ROOT": f"{self.release}/static",
            "CELERIAC_RELEASE": self.name,
        }
        files = [f"EnvironmentFile={path}" for path in self._parameters["environment_files"]]
        python = f"{self.release}/venv/bin/python"
        self._run("prepare", [python, "-m", "celeriac.prepare", *PREPARE_STEPS], environment, files)

    def _call(self, *command: str) -> None:
        code, output, error = self._module.run_command(list(command))
        if code != 0:
            raise ReleaseError(f"{command[0]} failed: {(error or output).strip()}")

    def _run(
        self,
        step: str,
        command: list[str],
        environment: dict[str, str] | None = None,
        properties: list[str] | None = None,
    ) -> None:
        """Run a command as the owner of the releases, in a transient unit.

        It may write below the root only.
        """
        variables = {
            "UV_CACHE_DIR": str(self.cache),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_CONFIG": "1",
            "SSL_CERT_FILE": CA_STORE,
            "HOME": str(self.cache),
            **(environment or {}),
        }
        settings = [
            f"User={self._parameters['owner']}",
            f"WorkingDirectory={self.release / 'app'}",
            "UMask=0027",
            "ProtectSystem=strict",
            f"ReadWritePaths={self.root}",
            "PrivateTmp=yes",
            "NoNewPrivileges=yes",
            # What serves is more urgent than what is being built.
            "Nice=10",
            "IOSchedulingClass=idle",
            *(properties or []),
        ]
        code, output, error = self._module.run_command(
            ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={STEP_UNIT}"]
            + [f"--property={setting}" for setting in settings]
            + [f"--setenv={name}={value}" for name, value in variables.items()]
            + ["--", *command]
        )
        if code != 0:
            failed = f"release {self.name} was not made, step {step} failed; what served serves on."
            raise ReleaseError(f"{failed}\n{output}{error}".strip())

    def _publish_static(self) -> None:
        """Add the release's files to those that nginx serves.

        Their names carry a hash: nothing of another release is replaced. Symlinks are left out:
        they could lead anywhere on the host.
        """
        source = self.release / "static"
        if not source.is_dir():
            return
        for path in source.rglob("*"):
            target = self.static / path.relative_to(source)
            if path.is_dir() and not path.is_symlink():
                target.mkdir(mode=0o755, exist_ok=True)
                target.chmod(0o755)
            elif path.name != "staticfiles.json" and not path.is_symlink():
                temporary = target.with_name(f".{target.name}.new")
                temporary.unlink(missing_ok=True)
                os.link(path, temporary)
                temporary.chmod(0o644)
                temporary.replace(target)

    def _note(self) -> None:
        note = {
            "release": self.name,
            "made": f"{datetime.now(UTC):%FT%TZ}",
            "seconds": self.seconds,
            **self._parameters["origin"],
        }
        temporary = self.release / ".release.json"
        temporary.write_text(json.dumps(note, indent=2) + "\n")
        temporary.chmod(0o644)
        temporary.replace(self.release / "release.json")

    def _prune(self) -> None:
        """Remove the oldest releases, but none that a process uses: it may import more."""
        made = sorted(self.releases.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in made[self._parameters["kept"] :]:
            if path.name != self.name and not in_use(path):
                shutil.rmtree(path)


def in_use(release: Path) -> bool:
    """Say whether a process runs in, or from, this release."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command_line = (process / "cmdline").read_text(errors="replace")
            if str(release) in f"{(process / 'cwd').readlink()} {command_line}":
                return True
    return False


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "required": True},
            "archive": {"type": "path"},
            "root": {"type": "path", "required": True},
            "owner": {"type": "str", "required": True},
            "group": {"type": "str", "required": True},
            "lock_file": {"type": "str", "required": True},
            "uv_requirements": {"type": "str", "required": True},
            "environment_files": {"type": "list", "elements": "path", "required": True},
            "kept": {"type": "int", "default": 5},
            "origin": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    site = Site(module)
    facts = {"site_release_id": site.name}
    if site.is_current():
        module.exit_json(changed=False, release=site.name, ansible_facts=facts)
    if module.check_mode or not module.params["archive"]:
        module.exit_json(changed=True, release=site.name, ansible_facts=facts)
    try:
        site.make()
    except ReleaseError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, release=site.name, seconds=site.seconds, ansible_facts=facts)


if __name__ == "__main__":
    main()
