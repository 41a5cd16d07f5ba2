"""From what the inventory names to a folder on this computer: fetched once, and again where it may have changed."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..preflight.source import SourceError
from .cache import Cache
from .index import digest_of, download, where
from .kept import KEPT, Exact, read_kept, write_kept
from .origin import ARCHIVE, FOLDER, PACKAGE, WHEEL, Origin
from .repository import Repository, name_of
from .unpack import unpack

# Of a commit or a digest, in a sentence.
_SHOWN = 12


@dataclass(frozen=True)
class Fetched:
    """A project on this computer.

    Attributes:
        folder: where it is.
        exact: what exactly it is; None for a folder of the operator's.
        remark: what is said about it, a sentence; empty where there is nothing to say.
    """

    folder: Path
    exact: Exact | None = None
    remark: str = ""


def fetched(fact: Mapping[str, Any], *, ask: bool = False, anew: bool = False, write: bool = False) -> Fetched:
    """Return where a project is, and bring it here where it is not.

    Args:
        fact: `site_project` of the derived facts.
        ask: whether a branch may stand for another commit than the last time.
        anew: whether what is kept beside the inventory counts for nothing.
        write: whether to keep there what it is.

    Raises:
        SourceError: it is not to be had, or is another thing than it was.
    """
    origin = Origin.from_fact(fact)
    if origin.kind == FOLDER:
        return Fetched(origin.path)
    before = None if anew else read_kept(origin)
    cache = Cache()
    with cache.locked():
        if origin.kind == ARCHIVE:
            return Fetched(*_archive(cache, origin.path))
        if origin.kind == PACKAGE:
            indexes = where(str(fact["index_url"] or ""), map(str, fact["extra_index_urls"] or []))
            folder, exact = _package(cache, origin, indexes, before)
        else:
            folder, exact = _commit(cache, origin, before, ask=ask)
    if exact == before:
        return Fetched(folder, exact)
    if write:
        write_kept(origin, exact)
    now = f"{exact.kind} {exact.digest[:_SHOWN]}"
    return Fetched(folder, exact, f"{origin.name} is {now}{f' (it was {before.digest[:_SHOWN]})' if before else ''}.")


def _archive(cache: Cache, archive: Path) -> tuple[Path, Exact]:
    if not archive.is_file():
        raise SourceError(
            f"`site_source` is {archive}, and there is no such file on this computer.",
            "site_source: .files/mysite-1.2.tar.gz        (from the inventory, or an absolute path)",
        )
    digest = digest_of(archive).partition(":")[2]
    return cache.folder(f"sha256-{digest}", functools.partial(unpack, archive)), Exact("sha256", digest)


def _package(cache: Cache, origin: Origin, indexes: Iterable[str], before: Exact | None) -> tuple[Path, Exact]:
    if before and cache.has(f"sha256-{before.digest}"):
        return cache.folder(f"sha256-{before.digest}", lambda _: None), before
    with cache.scratch() as scratch:
        digest = f"sha256:{before.digest}" if before else ""
        archive = download(origin.package, indexes, digest, scratch, built=origin.version == WHEEL)
        exact = Exact("sha256", digest_of(archive).partition(":")[2])
        _refuse_another(origin, before, exact)
        return _archive(cache, archive)


def _commit(cache: Cache, origin: Origin, before: Exact | None, *, ask: bool) -> tuple[Path, Exact]:
    if not shutil.which("git"):
        raise SourceError(
            f"{origin.text} is fetched by git, and there is none on this computer.", "sudo apt-get install git"
        )
    repository = Repository(cache, origin)
    if before and cache.has(name_of(before.digest)) and (before.is_fixed or not ask):
        return repository.check_out(before.digest), before
    repository.update()
    exact = Exact(*repository.commit())
    _refuse_another(origin, before, exact)
    if before and not ask:  # what preflight has taken
        exact = before
    return repository.check_out(exact.digest), exact


def _refuse_another(origin: Origin, before: Exact | None, exact: Exact) -> None:
    if before and before.is_fixed and exact != before:
        raise SourceError(
            f"{origin.name} is another thing than it was: {exact.kind} {exact.digest[:_SHOWN]}, and {KEPT} has "
            f"{before.kind} {before.digest[:_SHOWN]}.",
            "-e site_relock=true        (where you know why; else ask whoever publishes it)",
        )
