"""The wheelhouse: the files of exact versions, for hosts that ask no index.

Of each package one wheel that fits a kind of host, whose digest is one of those that the exact versions have. What is
not there yet is fetched, on the computer that runs Ansible: once, for all hosts of the kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from ..origin.index import digest_of, fetch, files_of, where
from ..preflight.source import SourceError
from .errors import LockError
from .projects import Wanted
from .requirements import Line, lines_of

# The oldest C library of which wheels speak, by the machine (PEP 600), and older names of some (PEP 599, 571, 513).
_OLDEST_LIBC = {"x86_64": 5, "i686": 5}
_OLDEST_LIBC_ELSEWHERE = 17
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
# Most of the time goes into waiting for the index.
_AT_ONCE = 8
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Kind:
    """What of a host decides which wheels it can install.

    Attributes:
        python: the version of the Python that runs the site: 3.13.5.
        libc: that of its C library: 2.41.
        machine: x86_64, say.
    """

    python: str
    libc: str
    machine: str

    def __str__(self) -> str:
        """`Python 3.13 on x86_64`."""
        return f"Python {'.'.join(self.python.split('.')[:2])} on {self.machine}"

    @classmethod
    def from_fact(cls, fact: Mapping[str, Any], chosen: str = "") -> Kind:
        """Return the kind of a host.

        Args:
            fact: what `site_host_preflight` has found.
            chosen: the Python that is not the host's own, as two numbers.
        """
        own = str(fact["python"])
        # Of another one all that is known is where it ends.
        python = own if not chosen or own.startswith(f"{chosen}.") else f"{chosen}.99"
        return cls(python, str(fact["libc"]), str(fact["architecture"]))

    @property
    def environment(self) -> dict[str, str]:
        """Return what the conditions of requirements are compared with."""
        return {name: str(value) for name, value in default_environment().items()} | {
            "implementation_name": "cpython",
            "implementation_version": self.python,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": self.python,
            "python_version": ".".join(self.python.split(".")[:2]),
            "sys_platform": "linux",
        }

    @property
    def tags(self) -> dict[Tag, int]:
        """Return what wheels may be for, the best first."""
        version = tuple(map(int, self.python.split(".")[:2]))
        name, platforms = f"cp{version[0]}{version[1]}", [*self._platforms()]
        found = [*cpython_tags(version, [name], platforms), *compatible_tags(version, name, platforms)]
        return {tag: rank for rank, tag in enumerate(dict.fromkeys(found))}

    def _platforms(self) -> Iterator[str]:
        oldest = _OLDEST_LIBC.get(self.machine, _OLDEST_LIBC_ELSEWHERE)
        for minor in range(int(self.libc.split(".")[1]), oldest - 1, -1):
            yield f"manylinux_2_{minor}_{self.machine}"
            if minor in _OLD_NAMES:
                yield f"{_OLD_NAMES[minor]}_{self.machine}"
        yield f"linux_{self.machine}"


@dataclass(frozen=True)
class Wheels:
    """The wheels of a release.

    Attributes:
        files: one of each package, by the names of the files.
        fetched: how many of them were not there.
    """

    files: Mapping[str, Path]
    fetched: int = 0


def wheels(folder: Path, texts: Iterable[str], kind: Kind, wanted: Wanted, *, write: bool = True) -> Wheels:
    """Return the wheels that a host installs; those that are not in the wheelhouse are fetched.

    Args:
        folder: the wheelhouse.
        texts: exact versions with hashes.
        kind: of the host.
        wanted: the choices, which say where the indexes are.
        write: whether anything may be fetched; without it what is not there is left out.

    Raises:
        LockError: one is not to be had, or is another than the exact versions have.
    """
    lines = [line for text in texts for line in lines_of(text) if _is_for(line, kind)]
    known = [path for path in sorted(folder.glob("*.whl")) if path.is_file()]
    found: dict[str, Path] = {}
    missing, tags = [], kind.tags
    for line in lines:
        here = [path for path in known if _rank(path.name, line, tags) is not None]
        right = [path for path in here if digest_of(path) in line.hashes]
        if right:
            best = min(right, key=lambda path: (_rank(path.name, line, tags) or 0, path.name))
            found[best.name] = best
        elif here:
            raise LockError(
                f"{here[0]} is not the file that the exact versions have: its digest is {digest_of(here[0])}.",
                f"rm {here[0]}        (it is fetched anew; or copy it once more)",
                "site_wheelhouse",
            )
        else:
            missing.append(line)
    if missing and write:
        folder.mkdir(parents=True, exist_ok=True)
        indexes = where(wanted.index_url, wanted.extra_index_urls)
        found |= {path.name: path for path in _fetched(missing, folder, kind, indexes)}
    return Wheels(found, len(missing) if write else 0)


def _is_for(line: Line, kind: Kind) -> bool:
    """Say whether hosts of a kind install what a line says."""
    wanted = line.requirement
    return bool(wanted and (wanted.marker is None or wanted.marker.evaluate(kind.environment)))


def _rank(name: str, line: Line, tags: Mapping[Tag, int]) -> int | None:
    """Return how well a wheel fits, 0 for the best; None where it is of something else, or does not."""
    try:
        package, version, _, of_wheel = parse_wheel_filename(name)
    except InvalidWheelFilename:
        return None
    if package != line.name or not line.version or version != Version(line.version):
        return None
    return min((tags[tag] for tag in of_wheel if tag in tags), default=None)


def _fetched(lines: Sequence[Line], folder: Path, kind: Kind, indexes: Sequence[str]) -> list[Path]:
    """Fetch a wheel for each line.

    Raises:
        LockError: there are some that no index has, all of them named.
    """
    tags = kind.tags

    def one(line: Line) -> Path | str:
        try:
            # An index of one's own need not know digests.
            found = [file for file in files_of(line, indexes) if not file.digest or file.digest in line.hashes]
            ranks = {file: rank for file in found if (rank := _rank(file.name, line, tags)) is not None}
            return fetch(min(ranks, key=lambda file: ranks[file]), folder, line.hashes) if ranks else ""
        except FileNotFoundError as error:
            return f"{error} is not there"
        except SourceError as error:
            return str(error)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        results = [*pool.map(one, lines)]
    refused = [(line, result) for line, result in zip(lines, results, strict=True) if isinstance(result, str)]
    if refused:
        names = [line.text.partition(";")[0].strip() for line, _ in refused]
        few = ", ".join(names[:_NAMES_SHOWN]) + (f", … ({len(names)} in all)" if len(names) > _NAMES_SHOWN else "")
        why = next(
            (reason for _, reason in refused if reason), "no index has a wheel that fits and that the lock knows"
        )
        first = names[0] if " @ " not in names[0] else "NAME==1.0"
        raise LockError(
            f"The wheelhouse {folder} has no wheel of {few} for {kind}: {why.rstrip('.')}.",
            f"pip wheel --no-deps {first}        (on a machine of that kind; into an index of yours, "
            "site_extra_index_urls, and -e site_relock=true)",
            "site_wheelhouse",
        )
    return [result for result in results if isinstance(result, Path)]
