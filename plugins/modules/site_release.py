#!/usr/bin/python
"""Make a release on a host, and make it the current one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import shutil
import tarfile
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
  - One round trip does a whole release, in this order, unpack, build the virtualenv, check and import everything, migrate, collect
    static files, switch C(current), prune. A failure before the switch takes the new directory away and leaves the rest as it was.
  - The action plugin of the same name packs the source and passes O(archive) only when the host does not have the release.
  - Everything that runs code of the project runs as O(owner), in a transient unit at low priority.
options:
  release:
    description: Name of the release, made from the contents of the source.
    type: str
    required: true
  archive:
    description: A tar file with the folders C(app) and C(runtime). Without it the module only says what it would do.
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
  environment:
    description: More environment for the steps. No secrets.
    type: dict
    default: {}
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

# A fixed name: a build left behind by a run that was killed is found by it, and ended before the next one begins.
STEP_UNIT = "site-release.service"
PYTHON = "/usr/bin/python3"
# Debian's store, which has the extra CA certificates of the host; uv would look at its own otherwise.
CA_STORE = "/etc/ssl/certs/ca-certificates.crt"


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
        self.seconds: dict[str, float] = {}

    # What is there

    def is_made(self) -> bool:
        """Say whether the release is complete: its note is the last thing that is written."""
        return (self.release / "release.json").exists()

    def is_current(self) -> bool:
        """Say whether the release is made and the current one."""
        return self.is_made() and self.current.is_symlink() and Path(os.readlink(self.current)).name == self.name

    # The transaction

    def make(self, archive: str) -> None:
        """Do the whole release.

        Raises:
            ReleaseError: a step failed. What was there before is untouched, but for migrations that were already applied.
        """
        self._folders()
        with self._locked():
            self._module.run_command(["systemctl", "stop", STEP_UNIT])
            self._remove_unfinished()
            try:
                for step in (self._unpack, self._uv, self._virtualenv, self._prepare, self._publish_static, self._note):
                    started = time.monotonic()
                    step(archive) if step == self._unpack else step()  # type: ignore[call-arg]
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
        owner, group = self._ids()
        for path, mode in ((self.root, 0o755), (self.releases, 0o750), (self.cache, 0o700), (self.static, 0o755)):
            path.mkdir(mode=mode, parents=True, exist_ok=True)
            path.chmod(mode)
            os.chown(path, *((0, 0) if path == self.root else (owner, group)))

    def _ids(self) -> tuple[int, int]:
        entry = pwd.getpwnam(self._parameters["owner"])
        return entry.pw_uid, entry.pw_gid

    def _remove_unfinished(self) -> None:
        for path in self.releases.iterdir():
            if not (path / "release.json").exists():
                shutil.rmtree(path)

    def _unpack(self, archive: str) -> None:
        if self.is_made():
            return
        self.release.mkdir()
        with tarfile.open(archive) as tar:
            tar.extractall(self.release, filter="data")
        # Only the group of the processes may read the code, and nobody but the owner may write it.
        self._module.run_command(["chown", "--recursive", ":".join(map(str, self._ids())), str(self.release)], check_rc=True)
        self._module.run_command(["chmod", "--recursive", "u=rwX,g=rX,o=", str(self.release)], check_rc=True)

    def _uv(self) -> None:
        version = self._parameters["uv_requirements"].split()[0].replace("==", "-")
        self._uv_program = self.root / "tools" / version / "bin" / "uv"
        if self._uv_program.exists():
            return
        folder = self._uv_program.parent.parent
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(exist_ok=True)
        requirements = folder.with_suffix(".txt")
        requirements.write_text(self._parameters["uv_requirements"])
        building = folder.with_name(f".{folder.name}")
        shutil.rmtree(building, ignore_errors=True)
        for command in (
            [PYTHON, "-m", "venv", str(building)],
            [f"{building}/bin/python", "-m", "pip", "install", "--quiet", "--require-hashes", "--requirement", str(requirements)],
        ):
            code, output, error = self._module.run_command(command, environ_update={"PIP_CERT": CA_STORE})
            if code != 0:
                raise ReleaseError(f"uv could not be installed: {(error or output).strip()}")
        building.rename(folder)

    def _virtualenv(self) -> None:
        if self.is_made():
            return
        uv, venv = str(self._uv_program), str(self.release / "venv")
        lock = self.release / "app" / self._parameters["lock_file"]
        self._run("virtualenv", [uv, "venv", "--quiet", "--python", PYTHON, venv])
        if lock.name == "uv.lock":
            install = [uv, "sync", "--quiet", "--frozen", "--no-dev", "--no-editable", "--no-install-project"]
        else:
            install = [uv, "pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode", str(lock)]
        self._run("virtualenv", install, {"VIRTUAL_ENV": venv, "UV_PROJECT_ENVIRONMENT": venv})
        runtime = [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--compile-bytecode", str(self.release / "runtime")]
        self._run("runtime", runtime, {"VIRTUAL_ENV": venv})

    def _prepare(self) -> None:
        self._run(
            "prepare",
            [f"{self.release}/venv/bin/python", "-m", "celeriac.prepare", "check", "import", "migrate", "static", "admin"],
            {
                "PYTHONPATH": f"{self.release}/app",
                "STATIC_ROOT": f"{self.release}/static",
                "CELERIAC_RELEASE": self.name,
            },
            [f"EnvironmentFile={path}" for path in self._parameters["environment_files"]],
        )

    def _run(self, step: str, command: list[str], environment: dict[str, str] | None = None, properties: list[str] | None = None) -> None:
        """Run a command as the owner of the releases, in a transient unit that may write below the root only."""
        variables = {
            "UV_CACHE_DIR": str(self.cache),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_CONFIG": "1",
            "SSL_CERT_FILE": CA_STORE,
            "HOME": str(self.cache),
            **self._parameters["environment"],
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
            raise ReleaseError(f"release {self.name} was not made, step {step} failed. What serves is as it was.\n{output}{error}".strip())

    def _publish_static(self) -> None:
        """Add the release's files to those that nginx serves. Their names carry a hash: nothing of another release is replaced."""
        source = self.release / "static"
        if not source.is_dir():
            return
        for path in source.rglob("*"):
            target = self.static / path.relative_to(source)
            if path.is_dir():
                target.mkdir(mode=0o755, exist_ok=True)
                target.chmod(0o755)
            elif path.name != "staticfiles.json":
                temporary = target.with_name(f".{target.name}.new")
                temporary.unlink(missing_ok=True)
                os.link(path, temporary)
                temporary.chmod(0o644)
                temporary.replace(target)

    def _note(self) -> None:
        note = {"release": self.name, "made": f"{datetime.now(UTC):%FT%TZ}", "seconds": self.seconds, **self._parameters["origin"]}
        temporary = self.release / ".release.json"
        temporary.write_text(json.dumps(note, indent=2) + "\n")
        temporary.chmod(0o644)
        temporary.replace(self.release / "release.json")

    def _prune(self) -> None:
        """Remove the oldest releases, but none that a process still uses: it may have more to import."""
        made = sorted(self.releases.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in made[self._parameters["kept"] :]:
            if path.name != self.name and not in_use(path):
                shutil.rmtree(path)


def in_use(release: Path) -> bool:
    """Say whether a process runs in, or from, this release."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(release) in f"{os.readlink(process / 'cwd')} {(process / 'cmdline').read_text(errors='replace')}":
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
            "environment": {"type": "dict", "default": {}},
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
        site.make(module.params["archive"])
    except ReleaseError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, release=site.name, seconds=site.seconds, ansible_facts=facts)


if __name__ == "__main__":
    main()
