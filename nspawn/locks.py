"""Locks between the commands of all checkouts of this computer."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock of this name, on the whole computer. Released, it leaves no file behind."""
    path = Path(f"/run/celeriac-machines.{name}.lock")
    with contextlib.ExitStack() as files:
        while True:
            file = files.enter_context(path.open("w"))
            os.set_inheritable(file.fileno(), True)
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever held it before us removed the file: others may hold the lock of a new one.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break
        try:
            yield
        finally:
            path.unlink()
