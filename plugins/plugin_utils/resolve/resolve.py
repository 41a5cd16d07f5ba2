"""From what a project has to exact versions with hashes: worked out once, and again where something has changed."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.celeriac.site.plugins.module_utils.site_files import write_atomically
from ansible_collections.celeriac.site.plugins.module_utils.site_systems import NEWEST_PYTHON, PYTHONS
from packaging.specifiers import SpecifierSet

from .additions import REDIS, Addition, lacking, tested
from .errors import LockError
from .kept import Kept, changes, made_from, read_kept, written
from .projects import STATED, Project, Wanted, read_project, refuse_without_hash
from .requirements import Line, are_locked, lines_of
from .uv import UvError, uv

# Without these it is no site of ours.
_NEEDED = ("django", "celery")
# With which versions one works: docs/versions.md.
VERSIONS = {"celery": ">=5.4,<5.8", "django": ">=4.2", "django-celery-beat": ">=2.5"}
_COMPILE = ("pip", "compile", "--no-config", "--universal", "--generate-hashes", "--no-header", "--no-annotate")
# As uv words an answer 401 or 403.
_NOT_LET_IN = re.compile(r"\b40[13] (Unauthorized|Forbidden)|authentication credentials")
# As it words a package for which the oldest Python of a host is too old.
_NEWER_PYTHON = re.compile(r"(?:does not\s+satisfy|requires)\s+Python ?(>=[\d.]+)")
_EXPORT = ("export", "--no-dev", "--no-emit-project", "--no-header", "--no-annotate")


@dataclass(frozen=True)
class Locked:
    """Exact versions with hashes.

    Attributes:
        file: that holds them.
        remark: what was done, a sentence; empty where nothing was.
    """

    file: Path
    remark: str = ""


def resolve(wanted: Wanted, kept: Path, *, anew: bool = False, into: Path | None = None) -> Locked:
    """Return the exact versions of a site.

    Where the project has them all, it is the project's own file. Else it is the one that is kept, and is made where it
    is not there, or something that it was made from has changed: then what need not change stays as it is.

    Args:
        wanted: the choices.
        kept: the file beside the inventory.
        anew: whether what is kept counts for nothing.
        into: where the file is written in place of `kept`, where nothing may change.

    Raises:
        LockError: there are no such versions.
    """
    project = read_project(wanted)
    if project.lock and _is_complete(project, wanted):
        _refuse_versions(project, project.lines)
        return Locked(project.lock)
    origin, before = made_from(project, wanted), read_kept(kept)
    if before and before.made_from == origin and not anew:
        return Locked(kept)
    with tempfile.TemporaryDirectory() as folder:
        packages, added = _resolved(project, wanted, Path(folder), before if not anew else None)
    after = Kept(origin, tuple(lines_of(packages)))
    _check(project, after)
    file = into or kept
    version = uv(wanted, file.parent, "--version").split()[1]
    write_atomically(file, written(origin, f"uv {version}", added, project.name, packages).encode())
    what = _remark(before, after, added, project, anew=anew)
    return Locked(
        file, f"{kept.name} {'would be' if into else 'was'} made{what}{'' if before or into else ' Keep it in git.'}"
    )


def _is_complete(project: Project, wanted: Wanted) -> bool:
    """Say whether the project's own file is what hosts are to have, as it stands."""
    if project.roots or not are_locked(project.lines):
        return False
    versions = {line.name: line.version for line in project.lines}
    for line in lines_of("\n".join(wanted.requirements)):
        version, asked = versions.get(line.name), line.requirement
        if not version or not asked or not asked.specifier.contains(version, prereleases=True):
            return False
    return not list(lacking(wanted, project.names, project.names)) and set(_NEEDED) <= project.names


def _resolved(project: Project, wanted: Wanted, folder: Path, before: Kept | None) -> tuple[str, list[Addition]]:
    """Return the lines for hosts, and what of them the project did not have."""
    pins = _pins(project, wanted)
    asked = project.names or {line.name for line in pins}
    added = list(lacking(wanted, asked, {line.name for line in pins}))
    texts = [*(each.requirement for each in added), *wanted.requirements]
    additions, result = folder / "additions.in", folder / "requirements.txt"
    # What uv finds there it prefers, with the hashes: those of the project, of the last time, that were tested.
    sources = [pins, before.lines if before else (), tested(added)]
    result.write_text("\n".join(map(str, _first_of_each(sources))))
    target = ("--python-version", project.target, "--output-file", result)
    words = (*_COMPILE, *target, *_inputs(project, wanted, folder, pins), additions)
    if not pins:
        # A client of Redis that is asked for in ranges may come with a kombu that refuses it: which one it works with
        # is said in its extra alone. Where no two fit, the project has what it asks for.
        additions.write_text("\n".join([*texts, REDIS.requirement]))
        with suppress(UvError):
            uv(wanted, folder, *words)
            return result.read_text(), added
    additions.write_text("\n".join(texts))
    try:
        uv(wanted, folder, *words)
    except UvError as error:
        if _NOT_LET_IN.search(str(error)):
            raise LockError(
                f"An index does not let uv in, which asks it for the packages of {project.name}. It says: {error}",
                'site_index_url: "https://NAME:{{ vault_index_password }}@pypi.mysite.org/simple"        '
                "(site_extra_index_urls likewise)",
                "site_extra_index_urls" if wanted.extra_index_urls else "site_index_url",
            ) from None
        if not wanted.python and (newer := _NEWER_PYTHON.search(str(error))):
            raise LockError(
                f"Packages of {project.name} need Python {newer[1]}, and hosts may have {project.target}.",
                f'site_python: "{NEWEST_PYTHON}"        (where all hosts have it: Debian {max(PYTHONS, key=int)} does)',
                "site_python",
            ) from None
        raise LockError(
            f"uv finds no versions for {project.name} with {', '.join(texts) or 'nothing more'}. It says: {error}",
            "site_requirements: [flower~=2.0.0]        (a version that the project can live with; or a new lock)",
            "site_requirements",
        ) from None
    return result.read_text(), added


def _pins(project: Project, wanted: Wanted) -> Sequence[Line]:
    """Return the exact versions that the project has already; none where it has no lock."""
    if project.lock is None or project.lock.name in STATED:
        return ()
    if project.lock.name == "uv.lock":
        return _exported(project.lock, wanted)
    return project.lines if project.roots or are_locked(project.lines) else ()


def _exported(lock: Path, wanted: Wanted) -> Sequence[Line]:
    """Return what a uv.lock holds."""
    chosen = [f"--extra={name}" for name in wanted.extras] + [f"--group={name}" for name in wanted.groups]
    try:
        # To compare it with its pyproject.toml may be to run the project's own program.
        text = uv(wanted, lock.parent, *_EXPORT, "--frozen" if wanted.foreign else "--locked", *chosen)
    except UvError as error:
        if "needs to be updated" in str(error):
            raise LockError(
                f"{lock} is not what its pyproject.toml asks for any more.", f"cd {lock.parent} && uv lock"
            ) from None
        # To compare them it wants the project's Python, which may be on hosts only.
        text = _frozen(lock, wanted, chosen)
    lines = list(lines_of(text))
    refuse_without_hash(lock.name, (line for line in lines if line.has_loose_origin))
    return lines


def _frozen(lock: Path, wanted: Wanted, chosen: Sequence[str]) -> str:
    try:
        return uv(wanted, lock.parent, *_EXPORT, "--frozen", *chosen)
    except UvError as error:
        raise LockError(
            f"uv cannot read {lock}. It says: {error}",
            "site_lock_extras: [prod]        (names that pyproject.toml has; site_lock_groups likewise)",
            "site_lock_extras" if wanted.extras else "site_lock",
        ) from None


def _first_of_each(sources: Iterable[Iterable[Line]]) -> list[Line]:
    """Return lines, of each package those of the first source that has it."""
    found: dict[str, list[Line]] = {}
    for lines in sources:
        here: dict[str, list[Line]] = {}
        for line in lines:
            here.setdefault(line.name, []).append(line)
        found = here | found
    found.pop("", None)
    return [line for lines in found.values() for line in lines]


def _inputs(project: Project, wanted: Wanted, folder: Path, pins: Sequence[Line]) -> list[str | Path]:
    """Return for uv what the project asks for."""
    if project.lock is None:
        return []
    if project.lock.name == "pyproject.toml" and not wanted.foreign:
        groups = [f"--group={project.lock}:{name}" for name in wanted.groups]
        return [project.lock, *(f"--extra={name}" for name in wanted.extras), *groups]
    if not pins and project.lock.name in STATED:
        asked = folder / "asked.in"
        asked.write_text("\n".join(line.text for line in project.lines))
        return [asked]
    if not pins:
        return [project.lock]
    locked = folder / "locked.txt"
    if not project.roots:
        locked.write_text("\n".join(line.text for line in pins))
        return [locked]
    # Of a package with more than one version, for other systems, uv chooses one.
    count = Counter(line.name for line in pins)
    locked.write_text("\n".join(line.text for line in pins if count[line.name] == 1))
    roots = folder / "roots.in"
    roots.write_text("\n".join(line.text for line in project.roots))
    return [roots, "--constraint", locked]


def _refuse_versions(project: Project, lines: Iterable[Line]) -> None:
    """Refuse libraries that the processes do not work with."""
    for line in lines:
        allowed = VERSIONS.get(line.name)
        if allowed and line.version and not SpecifierSet(allowed).contains(line.version, prereleases=True):
            raise LockError(
                f"{project.name} has {line.name} {line.version}, and a site works with {line.name} {allowed} "
                "(docs/versions.md).",
                f'site_requirements: ["{line.name}{allowed}"]        (if the project allows it; else another lock)',
                "site_requirements",
            )


def _check(project: Project, after: Kept) -> None:
    refuse_without_hash(project.name, (line for line in after.lines if not line.is_locked and not line.is_option))
    _refuse_versions(project, after.lines)
    if lost := [name for name in _NEEDED if name not in after.versions]:
        raise LockError(
            f"{project.name} has no {' and no '.join(lost)}, and neither has what comes with it.",
            "site_requirements: [django~=5.2.0, celery~=5.6.0]",
            "site_requirements",
        )


def _remark(before: Kept | None, after: Kept, added: list[Addition], project: Project, *, anew: bool) -> str:
    """Return what was done, behind `made`."""
    if before is None:
        names = sorted(name for each in added for name in each.names & set(after.versions))
        ours = ", ".join(f"{name} {after.versions[name]}" for name in names)
        more = f", {ours} added to those of {project.name}" if ours else ""
        return f": {len(after.versions)} packages{more}."
    different = sorted({name for name, _ in before.made_from.items() ^ after.made_from.items()})
    why = "site_relock" if anew else f"{', '.join(different)} changed"
    return f" anew ({why}): {changes(before.versions, after.versions)}."
