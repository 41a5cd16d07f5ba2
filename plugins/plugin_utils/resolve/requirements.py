"""A file of requirements as pip and uv read it: its lines, and what of it is an exact version with hashes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

_COMMENT = re.compile(r"(^|\s)#.*")
_HASH = re.compile(r"\s--hash[=\s](\S+)")
# https://pip.pypa.io/en/stable/reference/requirements-file-format/
_INCLUDE = re.compile(r"(?:-r|--requirement|-c|--constraint)(?:\s+|=|(?<=-[rc]))(\S+)")
# What no hash can hold: a repository, a folder, a file of this computer.
_LOOSE_ORIGIN = re.compile(r"^(-e|--editable)\b|^[./]|\b(git|hg|svn|bzr)\+|\bfile:")


@dataclass(frozen=True)
class Line:
    """A line of a file of requirements, its continuations with it.

    Attributes:
        text: without hashes and comments.
        hashes: of the files that may be installed for it.
    """

    text: str
    hashes: tuple[str, ...] = ()

    @property
    def is_option(self) -> bool:
        """Say whether it is an option for pip."""
        return self.text.startswith("-")

    @property
    def requirement(self) -> Requirement | None:
        """Return what it asks for; None where it is something else."""
        try:
            return Requirement(self.text)
        except InvalidRequirement:
            return None

    @property
    def name(self) -> str:
        """Return the name of the package as indexes spell it, empty where there is none."""
        found = self.requirement
        return canonicalize_name(found.name) if found else ""

    @property
    def version(self) -> str:
        """Return the one version that it allows, empty where it allows more."""
        found = self.requirement
        allowed = list(found.specifier) if found else []
        is_exact = len(allowed) == 1 and allowed[0].operator in ("==", "===") and "*" not in allowed[0].version
        return allowed[0].version if is_exact else ""

    @property
    def is_locked(self) -> bool:
        """Say whether it has hashes, and for one version."""
        found = self.requirement
        return bool(self.hashes and found and (self.version or (found.url or "").startswith("https://")))

    @property
    def has_loose_origin(self) -> bool:
        """Say whether it comes from where nothing has a hash."""
        return bool(_LOOSE_ORIGIN.search(self.text))

    def __str__(self) -> str:
        """The line as uv writes it."""
        return " \\\n    ".join([self.text, *(f"--hash={digest}" for digest in self.hashes)])


def lines_of(text: str) -> Iterator[Line]:
    """Return what a file of requirements says."""
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        bare = _COMMENT.sub("", line).strip()
        if bare:
            yield Line(" ".join(_HASH.sub("", bare).split()), tuple(_HASH.findall(bare)))


def included(file: Path) -> list[Path]:
    """Return a file and those that it includes, each once."""
    found: list[Path] = []
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.append(path)
        matches = (_INCLUDE.match(line.text) for line in lines_of(path.read_text(errors="replace")))
        waiting += [path.parent / match[1] for match in matches if match]
    return found


def are_locked(lines: Iterable[Line]) -> bool:
    """Say whether hosts can install lines as they stand: exact versions with hashes, and nothing from another file."""
    found = list(lines)
    return any(not line.is_option for line in found) and all(
        line.is_locked or (line.is_option and not line.has_loose_origin and not _INCLUDE.match(line.text))
        for line in found
    )
