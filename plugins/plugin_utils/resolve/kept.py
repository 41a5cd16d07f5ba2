"""The file beside the inventory: exact versions with hashes, under what they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .additions import Addition, additions_of
from .projects import Project, Wanted, digests
from .requirements import Line, are_locked, lines_of

_TITLE = """\
# The exact versions of all packages of the site, for every host. Made by a run of the playbook, to be kept in git: who
# deploys it next gets the same. `-e site_relock=true` makes it anew, with the newest versions that the project allows.
"""
_FROM = "# from "
_ADDED = "# added "
# Names in one sentence.
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Kept:
    """The file as it is.

    Attributes:
        made_from: what it was made from, by the name of each thing.
        lines: the packages.
    """

    made_from: Mapping[str, str]
    lines: tuple[Line, ...]

    @property
    def versions(self) -> dict[str, str]:
        """Return the version of each package; where there are more, for other systems, the last one."""
        return {line.name: line.version for line in self.lines if line.name}


def read_kept(file: Path) -> Kept | None:
    """Return what a file holds; None where it is not there, or is not whole."""
    if not file.is_file():
        return None
    text = file.read_text()
    lines = tuple(lines_of(text))
    if not are_locked(lines):
        return None
    noted = [line.removeprefix(_FROM) for line in text.splitlines() if line.startswith(_FROM)]
    return Kept(dict(line.split(": ", 1) for line in noted if ": " in line), lines)


def made_from(project: Project, wanted: Wanted) -> dict[str, str]:
    """Return all on which the versions rest, but for what indexes have to offer."""
    chosen = {
        "site_lock_extras": wanted.extras,
        "site_lock_groups": wanted.groups,
        "site_requirements": wanted.requirements,
        "what every site has": tuple(addition.requirement for addition in additions_of(wanted)),
        "the oldest Python": (project.target,),
    }
    files = {name: f"sha256 {digest}" for name, digest in digests(project.files).items()}
    return files | {name: " ".join(values) for name, values in chosen.items() if values}


def written(origin: Mapping[str, str], by: str, added: Iterable[Addition], lock: str, packages: str) -> str:
    """Return the content of the file.

    Args:
        origin: what it is made from.
        by: what has made it.
        added: what the project did not have.
        lock: where it did not have it.
        packages: the lines.
    """
    notes = [f"{_FROM}{name}: {value}" for name, value in origin.items()]
    notes += [f"{_ADDED}{each.requirement}: it {each.why}, and {lock} has none" for each in added]
    return "\n".join([f"{_TITLE}#", *notes, f"# by {by}", "", packages.strip(), ""])


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return what is another version now, in a few words."""
    words = [
        f"{name} {before.get(name, '(new)')} → {after.get(name, '(gone)')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    few = ", ".join(words[:_NAMES_SHOWN]) + (f", … ({len(words)} in all)" if len(words) > _NAMES_SHOWN else "")
    return few or "no version is another"
