"""What was fetched, kept for the next run on the computer that runs Ansible: it can be deleted at any time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..preflight.source import SourceError

# What no run has used for so long goes.
_KEPT_SECONDS = 30 * 24 * 3600
_LOCK = "lock"


class Cache:
    """Folders by what is in them: what is there is whole, and never changed.

    Attributes:
        root: the place of all.
    """

    def __init__(self) -> None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.root = home / "celeriac" / "sources"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other run of this account fetch meanwhile, and remove what none has used for long."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)  # a project may be nobody else's business
        with (self.root / _LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._prune()
            yield

    def _prune(self) -> None:
        before = time.time() - _KEPT_SECONDS
        for path in self.root.iterdir():
            # What begins with a dot was left behind by a run that was killed: nobody else is here.
            if path.name != _LOCK and (path.name.startswith(".") or path.stat().st_mtime < before):
                shutil.rmtree(path)

    def has(self, name: str) -> bool:
        """Say whether a folder is there."""
        return (self.root / name).is_dir()

    def folder(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return the folder of a name.

        Args:
            name: of the folder.
            make: fills an empty folder, where there is none of this name.

        Raises:
            SourceError: it could not be made, or what is in it leads out of it.
        """
        path = self.root / name
        if not path.is_dir():
            with self.scratch() as scratch:
                made = scratch / "made"
                made.mkdir()
                make(made)
                _refuse_links_out(made)
                made.rename(path)
        os.utime(path)
        return path

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a folder that is there for a while."""
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".") as folder:
            yield Path(folder)


def _refuse_links_out(top: Path) -> None:
    """Refuse what would ship a file of this computer: a link of a stranger's project may lead to it."""
    for path in top.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(top.resolve()):
            raise SourceError(
                f"{path.relative_to(top)} in it is a link to {path.readlink()}, which is a file of this computer.",
                "site_source: /home/me/mysite        (a copy that you have looked at)",
            )
