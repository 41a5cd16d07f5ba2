"""What of a project is shipped: what git tracks, or all that clearly may be where git tracks nothing.

An untracked file is as likely a dump or a key as a module that somebody forgot to add, so it stays here,
and is named. Preflight asks first, so that what cannot be read is refused before a host is touched.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from ansible_collections.celeriac.site.plugins.module_utils.site_secrets import without_passwords

# Of a project in which git tracks nothing: made again from the rest on the host, or of use here only.
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
# And these are secrets and data of this computer; their names are said.
PRIVATE = (".env", ".env.local", "*.sqlite3", "*.sqlite3-*")
# A hook of git is started with these, for the repository that it belongs to (githooks(5)).
OF_A_HOOK = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY"}
# Names in one sentence.
NAMES_SHOWN = 5


class SourceError(Exception):
    """What is to be shipped cannot be known, or would not be whole; the message says why, without passwords.

    Attributes:
        remedy: a command that helps.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(without_passwords(message))
        self.remedy = remedy


@dataclass(frozen=True)
class Source:
    """A project as it is shipped.

    Attributes:
        files: what is shipped, by its path in the project; a link is shipped as the link that it is.
        remarks: what a person may not expect, a sentence each.
    """

    files: dict[str, Path]
    remarks: list[str] = field(default_factory=list)


def read_source(folder: Path, include: Iterable[str] = ()) -> Source:
    """Find what of a project is shipped.

    Args:
        folder: of the project.
        include: files and folders in it that are shipped although git does not track them.

    Raises:
        SourceError: the folder is not there, git cannot read it, or a part of it is missing.
    """
    if not folder.is_dir():
        raise SourceError(f"There is no folder {folder}.", f"ls {folder.parent}")
    included = {name for path in include for name in _below(folder, path)}
    tracked = set(_git_names(folder, "ls-files", "--cached", "--recurse-submodules")) if in_checkout(folder) else set()
    if tracked:
        names, remarks = tracked | included, list(_remarks_of_checkout(folder, included))
    else:
        names = set(_below(folder, "."))
        private = {name for name in names - included if any(fnmatch(Path(name).name, one) for one in PRIVATE)}
        names = names - private | included
        remarks = [_sentence(private, "that git does not track {} left out")] if private else []
    files = _present(folder, names)
    if loose := {name for name in files if not _is_whole(files, name)}:
        remarks.append(_sentence(loose, "{} shipped and a link to what is not"))
    return Source(files, remarks)


def in_checkout(folder: Path) -> bool:
    """Say whether a folder is in a checkout of git, whoever owns it and whether git is there or not."""
    return any((parent / ".git").exists() for parent in (folder.absolute(), *folder.absolute().parents))


def git(folder: Path, *arguments: str) -> str:
    """Return what git prints.

    Raises:
        SourceError: it refused, or is not on this computer.
    """
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_HOOK}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, env=environment | {"LC_ALL": "C.UTF-8"}, check=False)
    except FileNotFoundError:
        raise SourceError(
            f"{folder} is in a checkout of git, and there is no git on this computer to say what belongs to it.",
            "sudo apt-get install git",
        ) from None
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip()
        message = f"git cannot read {folder}, so what would be shipped is not known. It says: {words}"
        raise SourceError(message, _remedy(words, folder))
    return os.fsdecode(done.stdout)


def _remedy(words: str, folder: Path) -> str:
    """Return git's own command, for the account that runs Ansible, where it has one."""
    lines = [line.strip() for line in words.splitlines()]
    said = next((line for line in lines if line.startswith("git config")), "")
    return said or f"git -C {folder} status"


def _git_names(folder: Path, *arguments: str) -> list[str]:
    return [name for name in git(folder, arguments[0], "-z", *arguments[1:]).split("\0") if name]


def _below(folder: Path, path: str) -> Iterator[str]:
    """Return the files at or below a path of the project."""
    top = folder / path
    found = top.rglob("*") if top.is_dir() and not top.is_symlink() else [top]
    for file in found:
        name = file.relative_to(folder)
        if not IGNORED & set(file.relative_to(top).parts) and (file.is_symlink() or file.is_file()):
            yield str(name)


def _present(folder: Path, names: set[str]) -> dict[str, Path]:
    """Return the files of these names that are there: one that somebody deleted is not shipped.

    A link stays one, but for one to a file outside of the project: that file is shipped in its place.

    Raises:
        SourceError: a folder is among them: what is in it would be missing.
    """
    present = [name for name in sorted(names) if os.path.lexists(folder / name)]
    files = {name: (folder / name).resolve() if _leads_out(folder, name) else folder / name for name in present}
    for name, path in files.items():
        if path.is_symlink() or not path.is_dir():
            continue
        if path == folder / name:
            raise SourceError(
                f"The submodule {name} of {folder} is not checked out: nothing of it would be shipped.",
                f"git -C {folder} submodule update --init --recursive",
            )
        raise SourceError(
            f"{name} in {folder} is a link to a folder outside of it, {path}: on the host nothing would be there.",
            f"a copy of the folder in place of the link, or a relative link to a folder below {folder}",
        )
    return files


def _leads_out(folder: Path, name: str) -> bool:
    """Say whether a file is a link to something that is there, but not in the project."""
    path, target = folder / name, _target(name, folder / name)
    return path.is_symlink() and path.exists() and (target == ".." or target.startswith(("/", "../")))


def _target(name: str, link: Path) -> str:
    """Return where a link leads, by its path in the project."""
    return os.path.normpath(Path(name).parent / link.readlink()) if link.is_symlink() else name


def _is_whole(files: dict[str, Path], name: str) -> bool:
    """Say whether a file is more than a link to something that is not shipped."""
    target = _target(name, files[name])
    return target == "." or any(file == target or file.startswith(f"{target}/") for file in files)


def _remarks_of_checkout(folder: Path, included: set[str]) -> Iterator[str]:
    untracked = set(_git_names(folder, "ls-files", "--others", "--exclude-standard")) - included
    if untracked:
        yield _sentence(untracked, "that git does not track {} left out (git add, or site_source_include)")
    entries = _git_names(folder, "status", "--porcelain", "--no-renames", "--untracked-files=no", "--", ".")
    if changed := {entry[3:] for entry in entries}:
        yield _sentence(changed, "with changes that are not committed {} shipped")


def _sentence(names: set[str], what: str) -> str:
    """Return a sentence such as `2 files that git does not track are left out: a, b`."""
    few = ", ".join(sorted(names)[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
    files, verb = ("1 file", "is") if len(names) == 1 else (f"{len(names)} files", "are")
    return f"{files} {what.replace('{}', verb)}: {few}."
