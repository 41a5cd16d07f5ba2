"""Pack the project and its runtime, and send them to a host that does not have them yet."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.celeriac.site.plugins.module_utils.site_build import OF_OWNER
from ansible_collections.celeriac.site.plugins.plugin_utils.origin.fetch import Fetched, fetched
from ansible_collections.celeriac.site.plugins.plugin_utils.origin.index import digest_of
from ansible_collections.celeriac.site.plugins.plugin_utils.origin.origin import Origin
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.source import (
    Source,
    SourceError,
    git,
    in_checkout,
    read_source,
)
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.errors import LockError
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.projects import Wanted, read_metadata
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.resolve import resolve
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.wheels import Kind, wheels
from ansible_collections.celeriac.site.plugins.plugin_utils.turns import Turns
from packaging.utils import canonicalize_name

# As the name of a package is written in that of a file.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9_]*")
# What a host is not told, in the order in which it is used here.
OF_THIS_COMPUTER = ("project", "kept", "runtime", "wheelhouse", "python", "include", "files", "files_of_owner")


class ActionModule(ActionBase):
    """The control side of the module `site_release`."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result; it is asked first whether it needs the archive at all."""
        super().run(tmp, task_vars)
        arguments, variables = dict(self._task.args), task_vars or {}
        only_built = arguments.pop("only_built", False)
        host, hosts, turns = variables["inventory_hostname"], variables["ansible_play_hosts_all"], Turns("release")

        def release() -> dict[str, Any]:
            with tempfile.TemporaryDirectory() as scratch:
                return self._release(arguments, Path(scratch), task_vars, only_built=only_built)

        def end(begun: Mapping[str, Any], part: str, why: str = "") -> dict[str, Any]:
            for name in OF_THIS_COMPUTER:
                arguments.pop(name, None)
            return self._module({**arguments, **begun, "part": part, "why": why}, task_vars)

        if arguments.get("part") == "end":
            if self._task.check_mode:
                return {"changed": False}
            nothing = {"release": "", "origin": {}, "by": getpass.getuser(), "wheels": []}
            return turns.end(host, hosts, lambda begun: end(begun, "record"), lambda why: end(nothing, "undo", why))
        if arguments.get("part") == "begin" and not self._task.check_mode:
            return turns.take(host, release)
        return release()

    def _release(
        self, arguments: dict[str, Any], scratch: Path, task_vars: dict[str, Any] | None, *, only_built: bool
    ) -> dict[str, Any]:
        project, kept, runtime, wheelhouse, python, include, files_of_project, files_of_owner = (
            arguments.pop(name) for name in OF_THIS_COMPUTER
        )
        try:
            # Preflight has fetched it, and made the file of exact versions, unless nothing may change: then both are
            # had for this look alone.
            origin = fetched(project, ask=self._task.check_mode)
            folder = origin.folder
            source = read_source(folder, include)
            added = written({"app": files_of_project, OF_OWNER: files_of_owner}, scratch / "files")
            into = scratch / "requirements.txt" if self._task.check_mode else None
            wanted = Wanted.from_fact(project, folder)
            lock = resolve(wanted, Path(kept), into=into)
            files = release_files(source, read_source(Path(runtime)), lock.file)
            files |= metadata_files(source, wanted.folder) | added
        except (SourceError, LockError) as error:
            raise AnsibleActionFail(f"{error} Try: {error.remedy}") from error
        for remark in source.remarks:
            Display().warning(f"{folder}: {remark}")
        name = release_name(files, arguments.get("build_commands") or [], python)
        arguments |= {"release": name, "origin": note_of(origin, project), "by": getpass.getuser(), "wheels": []}

        result = self._module(arguments | {"until": "look"}, task_vars)
        if not result.get("changed") or self._task.check_mode or result.get("failed"):
            return result
        arguments["until"] = "build" if only_built else ""
        if result["built"] and only_built:
            return {**result, "changed": False}
        chosen: Mapping[str, Path] = {}
        if wheelhouse:
            texts = [lock.file.read_text(), arguments["uv_requirements"]]
            try:
                chosen = wheels(Path(wheelhouse), texts, Kind.from_fact(result["kind"]), wanted).files
            except LockError as error:
                raise AnsibleActionFail(f"{error} Try: {error.remedy}") from error
            # Of one that is built, too: the host keeps these, and no others.
            arguments["wheels"] = sorted(chosen)
        # What it is to be told when it goes on with that.
        begun = {"begun": {key: arguments[key] for key in ("release", "origin", "by", "wheels")}}
        if result["built"]:
            return self._module(arguments, task_vars) | begun
        new = {key: path for key, path in chosen.items() if result["wheels"].get(key) != digest_of(path)}
        files |= {f"wheels/{key}": path.resolve() for key, path in new.items()}
        archive = scratch / "release.tar.gz"
        pack(files, archive)
        remote = self._connection._shell.join_path(self._make_tmp_path(), archive.name)
        self._transfer_file(str(archive), remote)
        try:
            return self._module(arguments | {"archive": remote}, task_vars) | begun
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _module(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return dict(
            self._execute_module(module_name="celeriac.site.site_release", module_args=arguments, task_vars=task_vars)
        )


def release_files(project: Source, runtime: Source, lock: Path) -> dict[str, Path]:
    """Return the files of a release by their path in it."""
    files = {"requirements.txt": lock} | {f"app/{name}": path for name, path in project.files.items()}
    return files | {f"runtime/{name}": path for name, path in runtime.files.items() if not name.startswith("tests/")}


def metadata_files(project: Source, folder: str) -> dict[str, Path]:
    """Return what a source distribution says of itself, where Python looks for that on a host.

    Many a package asks for its own version (`importlib.metadata`), and it is not installed there.

    Args:
        project: what is shipped.
        folder: the one on Python's path.
    """
    said = project.files.get("PKG-INFO")
    here = {path.parent.name for path in map(Path, project.files) if path.parent.parent == Path(folder)}
    if said is None or any(name.endswith((".egg-info", ".dist-info")) for name in here):
        return {}
    name = canonicalize_name(str(read_metadata(said).get("Name", ""))).replace("-", "_")
    # A stranger's word, which is to be no path.
    return {str(Path("app", folder, f"{name}.egg-info", said.name)): said} if _PACKAGE.fullmatch(name) else {}


def written(contents: Mapping[str, Mapping[str, str]], folder: Path) -> dict[str, Path]:
    """Write files, by their folders in a release, into a folder of nobody else's; return them by their paths in it."""
    files = {f"{top}/{name}": text for top, texts in contents.items() for name, text in texts.items()}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {name: folder / name for name in files}


def release_name(files: dict[str, Path], build_commands: Sequence[Sequence[str]] = (), python: str = "") -> str:
    """Return the name of the release that is built of these files: the same always give the same name.

    Args:
        files: by their paths in it.
        build_commands: what makes more of it.
        python: the one that was chosen; empty for the host's own.
    """
    digest = hashlib.sha256()
    for name, path in files.items():
        is_link = path.is_symlink()
        content = hashlib.sha256(os.fsencode(path.readlink()) if is_link else path.read_bytes()).hexdigest()
        kind = "link" if is_link else is_executable(path)
        digest.update(f"{content} {kind} {name}\n".encode())
    for command in build_commands:
        digest.update(f"{json.dumps([str(word) for word in command])}\n".encode())
    if python:
        digest.update(f"python {python}\n".encode())
    return digest.hexdigest()[:12]


def is_executable(path: Path) -> bool:
    """Say whether the owner may execute the file, the one permission that a release keeps."""
    return bool(path.stat().st_mode & 0o100)


def pack(files: dict[str, Path], archive: Path) -> None:
    """Write the files into a compressed tar file."""
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for name, path in files.items():
            entry = tarfile.TarInfo(name)
            if path.is_symlink():
                entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
                tar.addfile(entry)
                continue
            entry.size = path.stat().st_size
            entry.mtime = int(path.stat().st_mtime)
            entry.mode = 0o755 if is_executable(path) else 0o644
            with path.open("rb") as stream:
                tar.addfile(entry, stream)


def note_of(origin: Fetched, project: Mapping[str, Any]) -> dict[str, str]:
    """Return from what the release is made, for the note it keeps of itself: the commit, empty where there is none."""
    if origin.exact:
        is_commit = origin.exact.kind != "sha256"
        name = Origin.from_fact(project).name
        return {"commit": origin.exact.digest[:12] if is_commit else "", "source": f"{name} = {origin.exact}"}
    commit = ""
    if in_checkout(origin.folder):
        with contextlib.suppress(SourceError):  # nothing was ever committed
            commit = git(origin.folder, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").strip()
    return {"commit": commit}
