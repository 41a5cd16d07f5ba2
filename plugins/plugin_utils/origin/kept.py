"""The file beside the inventory: what exactly a source is that comes from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ansible_collections.celeriac.site.plugins.module_utils.site_files import write_atomically

from .origin import Origin

_TITLE = """\
# What exactly the source of the site is. Made by a run of the playbook, to be kept in git: who deploys it next gets the
# same. A version of a package, or a tag, that is another thing one day is refused; `-e site_relock=true` takes it.
"""
KEPT = "site.source.txt"


@dataclass(frozen=True)
class Exact:
    """What exactly a source is.

    Attributes:
        kind: "sha256" of an archive; "tag", "branch" or "commit" of a repository.
        digest: of the archive, or the commit.
    """

    kind: str
    digest: str

    def __str__(self) -> str:
        """`tag 1f2e…`."""
        return f"{self.kind} {self.digest}"

    @property
    def is_fixed(self) -> bool:
        """Say whether its name must not stand for another thing one day."""
        return self.kind != "branch"


def read_kept(origin: Origin) -> Exact | None:
    """Return what a source is by the file; None where it does not say."""
    file = origin.beside / KEPT
    lines = file.read_text().splitlines() if file.is_file() else []
    for line in lines:
        name, separator, exact = line.rpartition(" = ")
        kind, _, digest = exact.partition(" ")
        if separator and name == origin.name and digest:
            return Exact(kind, digest)
    return None


def write_kept(origin: Origin, exact: Exact) -> Path:
    """Write what a source is, and return the file."""
    file = origin.beside / KEPT
    write_atomically(file, f"{_TITLE}\n{origin.name} = {exact}\n".encode())
    return file
