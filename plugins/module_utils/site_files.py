"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


def write_atomically(path: Path, content: bytes, mode: int = 0o644, owner: tuple[int, int] | None = None) -> None:
    """Write a file, so that it is there whole or not at all, also after a power cut.

    Args:
        path: of the file; its directory exists.
        content: what it holds.
        mode: who may read it, everybody if nothing is said.
        owner: uid and gid, of this process if nothing is said.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        if owner:
            os.fchown(descriptor, *owner)
        os.fchmod(descriptor, mode)
        stream.flush()
        os.fsync(descriptor)
    Path(temporary).replace(path)


def link_atomically(link: Path, target: str) -> None:
    """Make a symlink, in one step also where one is already."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def remove(path: Path) -> bool:
    """Take away a file, a symlink, or a folder with all that is in it; return whether there was one."""
    if not os.path.lexists(path):
        return False
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    return True


def target_of(link: Path) -> str:
    """Return the name of the file that a symlink points to, empty where there is none."""
    return link.readlink().name if link.is_symlink() else ""
