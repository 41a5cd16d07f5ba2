"""What a project has that says which packages it needs, in whatever form. It is read here, and not resolved."""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

from ansible_collections.celeriac.site.plugins.module_utils.site_systems import IN_WORDS, PYTHONS
from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from .errors import LockError
from .requirements import Line, are_locked, included, lines_of

# Where `site_lock` names none: the first of these, in the folder of manage.py or above.
LOOKED_FOR = ("uv.lock", "poetry.lock", "requirements.txt", "pyproject.toml")
# What no list of requirements ends with, whatever it is called.
_OTHER_FORMS = (".lock", ".toml", ".json", ".yml", ".yaml", ".cfg", ".py")
# And what a package that was fetched says of itself: a source distribution, a wheel.
METADATA = ("PKG-INFO", "*.dist-info/METADATA")
# What asks for packages in words of its own, which are lines of requirements only when they are read.
STATED = frozenset({"pyproject.toml", "PKG-INFO", "METADATA"})


@dataclass(frozen=True)
class Wanted:
    """The choices that say what a site is made from: `site_project` in the derived facts.

    Attributes:
        source: the folder of the project.
        folder: where manage.py is in it; empty for its top.
        lock: the file of the project that says which packages it needs, relative to its folder; empty to look for one.
        extras: extras of the project.
        groups: groups of dependencies of the project.
        requirements: what the operator adds.
        python: the one that hosts run it with, as two numbers; empty for their own.
        monitored: whether a host runs Flower.
        asgi: whether the project is called as an ASGI application.
        index_url: the index in place of PyPI; empty for PyPI.
        extra_index_urls: indexes that are asked first.
        foreign: whether the project is somebody's that was fetched: then nothing of it is run here.
    """

    source: Path
    folder: str = ""
    lock: str = ""
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    python: str = ""
    monitored: bool = True
    asgi: bool = False
    index_url: str = field(default="", repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    foreign: bool = False

    @property
    def pythons(self) -> list[str]:
        """Return the versions of Python that hosts may have for it."""
        known = [*PYTHONS.values()]
        if not self.python:
            return known
        # Of one that no Debian here has, all that is known is where it ends.
        return [version for version in known if version.startswith(f"{self.python}.")] or [f"{self.python}.99"]

    @classmethod
    def from_fact(cls, fact: Mapping[str, Any], source: Path) -> Wanted:
        """Return what the fact says; what is of a wrong type is refused by another check than those here.

        Args:
            fact: the choices.
            source: where the project is, of which the fact says only where it comes from.
        """
        texts = {name: str(value or "") for name, value in fact.items()}
        lists = {name: tuple(map(str, value)) if isinstance(value, list) else () for name, value in fact.items()}
        return cls(
            source=source,
            folder=texts["folder"],
            lock=texts["lock"],
            extras=lists["extras"],
            groups=lists["groups"],
            requirements=lists["requirements"],
            python=texts["python"],
            monitored=bool(fact["monitored"]),
            asgi=bool(fact["asgi"]),
            index_url=texts["index_url"],
            extra_index_urls=lists["extra_index_urls"],
            foreign=source != Path(texts["source"]),
        )


@dataclass(frozen=True)
class Project:
    """What a project says of its packages.

    Attributes:
        lock: the file that says it; None where there is none.
        files: all that was read, by its name in the project.
        python: the versions of Python that the project allows, as PEP 440 writes them; empty for any.
        lines: the packages, where the file has them as lines; of exact versions where it is a lock.
        roots: what of them is asked for, where that is not all.
        pythons: the versions that hosts may have.
    """

    lock: Path | None
    files: Mapping[str, Path] = field(default_factory=dict)
    python: str = ""
    lines: tuple[Line, ...] = ()
    roots: tuple[Line, ...] = ()
    pythons: Sequence[str] = (*PYTHONS.values(),)

    @property
    def name(self) -> str:
        """Return the name of its lock, for people."""
        return self.lock.name if self.lock else "site_requirements"

    @property
    def names(self) -> set[str]:
        """Return the packages that the project itself has, as far as it says so."""
        return {line.name for line in self.roots or self.lines} - {""}

    @property
    def target(self) -> str:
        """Return the oldest Python of a host for which there must be versions: those of others need no more."""
        allowed = [version for version in self.pythons if self.allows(version)]
        return ".".join(allowed[0].split(".")[:2])

    def allows(self, python: str) -> bool:
        """Say whether the project runs on a version of Python."""
        return SpecifierSet(self.python).contains(python, prereleases=True)


def read_project(wanted: Wanted) -> Project:
    """Read what a project says of its packages.

    Args:
        wanted: the choices.

    Raises:
        LockError: it says nothing, something that no hash can hold, or no host has its Python.
    """
    refuse_without_hash("site_requirements", _loose(lines_of("\n".join(wanted.requirements))))
    lock = _lock_of(wanted)
    if lock is None:
        if not wanted.requirements:
            raise LockError(
                f"{wanted.source} has none of {', '.join(LOOKED_FOR)}, so it is not known which packages it needs.",
                "site_requirements: [django~=5.2.0, celery~=5.6.0]        (or site_lock: a file that says it)",
            )
        return Project(None, pythons=wanted.pythons)
    project = replace(_READERS.get(lock.name, _read_requirements)(lock, wanted), pythons=wanted.pythons)
    if not any(project.allows(version) for version in project.pythons):
        have = f"`site_python` is {wanted.python}" if wanted.python else f"hosts have {' or '.join(project.pythons)}"
        raise LockError(
            f"The project's pyproject.toml allows Python {project.python} only, and {have} ({IN_WORDS}).",
            'requires-python = ">=3.11"        (in pyproject.toml, where the project runs on it)',
            "site_python" if wanted.python else "site_lock",
        )
    return project


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """Return what is in files, by their names."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sorted(files.items())}


def _lock_of(wanted: Wanted) -> Path | None:
    if wanted.lock:
        named = wanted.source / wanted.lock
        if not named.is_file():
            raise LockError(
                f"There is no file {wanted.lock} in {wanted.source}.",
                "site_lock: requirements/production.txt        (or without it: the first there is of "
                f"{', '.join(LOOKED_FOR)})",
            )
        if named.name not in _READERS and named.suffix in _OTHER_FORMS:
            raise LockError(
                f"{wanted.lock} in {wanted.source} has a form that is not read here: there are uv.lock, poetry.lock, "
                "pyproject.toml, and requirements as pip has them, in a file of any name.",
                "site_lock: requirements.txt        (`pipenv requirements --hash`, or `pdm export`, makes one)",
            )
        return named
    folders = _upwards(wanted, wanted.source / wanted.folder)
    found = (path for folder in folders for name in (*LOOKED_FOR, *METADATA) for path in sorted(folder.glob(name)))
    return next((path for path in found if path.is_file() and _says_something(path)), None)


def _upwards(wanted: Wanted, folder: Path) -> list[Path]:
    """Return a folder of the project and those that it is in."""
    return [path for path in (folder, *folder.parents) if path.is_relative_to(wanted.source)]


def _says_something(path: Path) -> bool:
    """Say whether a file speaks of packages: many a pyproject.toml is there for linters alone."""
    if path.name in ("PKG-INFO", "METADATA"):
        return "Requires-Dist" in read_metadata(path)
    if path.name != "pyproject.toml":
        return True
    content, metadata = _toml(path), path.with_name("PKG-INFO")
    if not _is_static(content) and metadata.is_file() and _says_something(metadata):
        return False  # what its program has said when it was packed, it need not say again
    return "project" in content or "poetry" in content.get("tool", {})


def _is_static(content: Mapping[str, Any]) -> bool:
    """Say whether a pyproject.toml has its dependencies itself, and no program is to be asked for them."""
    return "project" in content and "dependencies" not in content["project"].get("dynamic", [])


def _read_requirements(lock: Path, wanted: Wanted) -> Project:
    files = included(lock)
    lines = [line for file in files for line in lines_of(file.read_text(errors="replace"))]
    refuse_without_hash(lock, _loose(lines))
    top = tuple(lines_of(lock.read_text(errors="replace")))
    return Project(lock, _named(wanted, files), _python_of(lock, wanted), top if are_locked(top) else tuple(lines))


def _read_uv(lock: Path, wanted: Wanted) -> Project:
    return Project(lock, _named(wanted, [lock, lock.with_name("pyproject.toml")]), _python_of(lock, wanted))


def _read_pyproject(lock: Path, wanted: Wanted) -> Project:
    content = _toml(lock)
    if wanted.foreign and not _is_static(content):
        raise LockError(
            f"{lock.name} of the project leaves it to a program of its own to say which packages it needs, and of what "
            "was fetched nothing is run on this computer.",
            "site_lock: requirements.txt        (a file of it that says so; or site_source: a folder of yours)",
        )
    stated = list(_stated(content, wanted))
    refuse_without_hash(lock, _loose(stated))
    return Project(lock, _named(wanted, [lock]), _python_of(lock, wanted), tuple(stated))


def _read_poetry(lock: Path, wanted: Wanted) -> Project:
    """Read what Poetry has locked. It does not say for whom: what is asked for stands in pyproject.toml."""
    beside = lock.with_name("pyproject.toml")
    roots = list(_stated(_toml(beside), wanted)) if beside.is_file() else []
    refuse_without_hash(beside, _loose(roots))
    if not roots:
        raise LockError(f"{lock} is there, and {beside} does not ask for anything.", "site_lock: requirements.txt")
    packages = _toml(lock).get("package", [])
    if lost := {root.name for root in roots} - {canonicalize_name(package["name"]) for package in packages}:
        raise LockError(
            f"{lock} does not have what {beside} asks for: {', '.join(sorted(lost))}.",
            f"cd {lock.parent} && poetry lock",
        )
    pins = [
        Line(f"{package['name']}=={package['version']}", tuple(file["hash"] for file in package.get("files", [])))
        for package in packages
        if package.get("source", {}).get("type", "legacy") == "legacy"
    ]
    return Project(lock, _named(wanted, [lock, beside]), _python_of(lock, wanted), tuple(pins), tuple(roots))


def _read_metadata(lock: Path, wanted: Wanted) -> Project:
    """Read what a package says of itself (https://packaging.python.org/en/latest/specifications/core-metadata/)."""
    metadata = read_metadata(lock)
    stated = [line for text in metadata.get_all("Requires-Dist", []) for line in _of_extras(Requirement(text), wanted)]
    refuse_without_hash(lock, _loose(stated))
    return Project(lock, _named(wanted, [lock]), str(metadata.get("Requires-Python", "")), tuple(stated))


def read_metadata(path: Path) -> Message:
    """Return what a package says of itself (https://packaging.python.org/en/latest/specifications/core-metadata/)."""
    return Parser().parsestr(path.read_text(errors="replace"), headersonly=True)


def _of_extras(asked: Requirement, wanted: Wanted) -> Iterator[Line]:
    """Yield what is asked for, unless it is for an extra that nobody wants."""
    if asked.marker and "extra" in str(asked.marker):
        if not any(asked.marker.evaluate({"extra": extra}) for extra in wanted.extras):
            return
        asked.marker = None
    yield Line(str(asked))


_READERS = {
    "uv.lock": _read_uv,
    "poetry.lock": _read_poetry,
    "pyproject.toml": _read_pyproject,
    "PKG-INFO": _read_metadata,
    "METADATA": _read_metadata,
}


def _stated(content: Mapping[str, Any], wanted: Wanted) -> Iterator[Line]:
    """Yield what a pyproject.toml asks for, in the words of Python's own standard or of Poetry."""
    project, poetry = content.get("project", {}), content.get("tool", {}).get("poetry", {})
    texts = [*project.get("dependencies", [])]
    tables = [poetry.get("dependencies", {})]
    for name in wanted.extras:
        texts += project.get("optional-dependencies", {}).get(name, [])
    for name in wanted.groups:
        texts += _in_group(content.get("dependency-groups", {}), name)
        tables.append(poetry.get("group", {}).get(name, {}).get("dependencies", {}))
    extras = {canonicalize_name(name) for extra in wanted.extras for name in poetry.get("extras", {}).get(extra, [])}
    for text in texts:
        yield from lines_of(text)
    for name, asked in ((name, asked) for table in tables for name, asked in table.items() if name != "python"):
        first = asked[0] if isinstance(asked, list) else asked
        options = first if isinstance(first, dict) else {}
        if not options.get("optional") or canonicalize_name(name) in extras:
            yield _line_of_poetry(name, options)


def _in_group(groups: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield what is in a group, and in those that it includes (PEP 735)."""
    for each in groups.get(name, []):
        if isinstance(each, str):
            yield each
        else:
            yield from _in_group(groups, each.get("include-group", ""))


def _line_of_poetry(name: str, options: Mapping[str, Any]) -> Line:
    """Return a dependency of Poetry without its version, which is that of the lock."""
    if "git" in options or "path" in options:
        origin = f"git+{options['git']}" if "git" in options else f"file:{options['path']}"
        return Line(f"{name} @ {origin}")
    if "url" in options:
        return Line(f"{name} @ {options['url']}")
    return Line(f"{name}[{','.join(options.get('extras', ()))}]")


def _python_of(lock: Path, wanted: Wanted) -> str:
    """Return the versions of Python that the pyproject.toml by a lock allows, empty where none says."""
    found = (folder / "pyproject.toml" for folder in _upwards(wanted, lock.parent))
    content = next((_toml(path) for path in found if path.is_file()), {})
    asked = content.get("tool", {}).get("poetry", {}).get("dependencies", {}).get("python", "")
    text = str(content.get("project", {}).get("requires-python", asked))
    # Poetry's own signs: https://python-poetry.org/docs/dependency-specification/#caret-requirements
    text = re.sub(r"\^\s*(\d+)((?:\.\d+)*)", lambda found: f">={found[1]}{found[2]},<{int(found[1]) + 1}", text)
    text = re.sub(r"(?<!\S)~\s*(\d+\.\d+)(?!\.)", r"==\1.*", text)
    try:
        return str(SpecifierSet(text))
    except InvalidSpecifier:
        return ""


def refuse_without_hash(file: Path | str, lines: Iterable[Line]) -> None:
    """Refuse what hosts cannot be sure of.

    Args:
        file: where it stands.
        lines: what has no hash, or can have none.

    Raises:
        LockError: there is any.
    """
    for line in lines:
        raise LockError(
            f"{file} has `{line.text}`: what comes from a repository or a folder has no hash, so it "
            "could be another thing on the next host.",
            "NAME @ https://…/NAME-1.0.tar.gz        (an archive; or a wheel in an index of yours: "
            "site_extra_index_urls. The project itself is left out: its folder is on Python's path)",
            "site_requirements" if file == "site_requirements" else "site_lock",
        )


def _loose(lines: Iterable[Line]) -> Iterator[Line]:
    return (line for line in lines if line.has_loose_origin)


def _named(wanted: Wanted, files: Iterable[Path]) -> dict[str, Path]:
    return {os.path.relpath(path, wanted.source): path for path in files if path.is_file()}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except ValueError as error:  # no TOML, or no UTF-8
        raise LockError(f"{path} cannot be read: {error}.", f"git -C {path.parent} diff {path.name}") from None
