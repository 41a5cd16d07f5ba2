"""Pack the project and its runtime, and send them to a host that does not have them yet."""

from __future__ import annotations

import getpass
import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# Left out of a project that is no git checkout; in a checkout .gitignore decides.
IGNORED = {
    ".git",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
}


class ActionModule(ActionBase):
    """The control side of the module `site_release`."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result; it is asked first whether it needs the archive at all."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        source, runtime = Path(arguments.pop("source")), Path(arguments.pop("runtime"))
        files = {f"app/{name}": path for name, path in project_files(source).items()}
        files |= {
            f"runtime/{name}": path for name, path in project_files(runtime).items() if not name.startswith("tests/")
        }
        arguments |= {"release": release_name(files), "origin": origin(source), "by": getpass.getuser()}

        result = self._module(arguments, task_vars)
        if not result.get("changed") or self._task.check_mode or result.get("failed"):
            return result
        with tempfile.NamedTemporaryFile(suffix=".tar.gz") as archive:
            pack(files, Path(archive.name))
            remote = self._connection._shell.join_path(self._make_tmp_path(), "release.tar.gz")
            self._transfer_file(archive.name, remote)
        try:
            return self._module(arguments | {"archive": remote}, task_vars)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _module(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return dict(self._execute_module(module_name="site_release", module_args=arguments, task_vars=task_vars))


def project_files(folder: Path) -> dict[str, Path]:
    """Return the files of a project by their path in it.

    What git would commit, or all but `IGNORED` where there is no git.

    Raises:
        AnsibleActionFail: the folder is not there.
    """
    if not folder.is_dir():
        raise AnsibleActionFail(f"site_source: there is no folder {folder}")
    command = [
        "git",
        "-C",
        str(folder),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode()
        names = [name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        names = [
            str(path.relative_to(folder))
            for path in folder.rglob("*")
            if not IGNORED & set(path.relative_to(folder).parts)
        ]
    return {name: folder / name for name in sorted(names) if (folder / name).is_file()}


def release_name(files: dict[str, Path]) -> str:
    """Return the name of the release with these files: the same files always give the same name."""
    digest = hashlib.sha256()
    for name, path in files.items():
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{content} {is_executable(path)} {name}\n".encode())
    return digest.hexdigest()[:12]


def is_executable(path: Path) -> bool:
    """Say whether the owner may execute the file, the one permission that a release keeps."""
    return bool(path.stat().st_mode & 0o100)


def pack(files: dict[str, Path], archive: Path) -> None:
    """Write the files into a compressed tar file."""
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for name, path in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = path.stat().st_size
            entry.mtime = int(path.stat().st_mtime)
            entry.mode = 0o755 if is_executable(path) else 0o644
            with path.open("rb") as stream:
                tar.addfile(entry, stream)


def origin(source: Path) -> dict[str, str]:
    """Return from which commit the release is made, for the note it keeps of itself."""
    command = [
        "git",
        "-C",
        str(source),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:  # no git on this computer
        commit = ""
    return {"commit": commit}
