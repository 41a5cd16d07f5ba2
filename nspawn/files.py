"""Files and root file systems that are whole or not there, whenever a command is killed."""

from __future__ import annotations

import shutil
from pathlib import Path

from nspawn.shell import run


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, sees the old text or the new one, never a part."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a root file system; the target gets its name when it is complete."""
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "--archive", "--reflink=auto", source, partial)
    partial.rename(target)


def remove_tree(path: Path) -> None:
    """Remove a root file system; a crash in the middle leaves none that looks complete."""
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    if path.exists():
        path.rename(partial)
        shutil.rmtree(partial)
