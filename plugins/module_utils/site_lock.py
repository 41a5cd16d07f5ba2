"""One at a time on a host, for a step of one process: a lock of the kernel, free again when that has ended, however."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.celeriac.site.plugins.module_utils.site_claim import began, now
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import HeldError


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock while the block runs; the kernel takes it back from a process that ends.

    Whoever may open a file may lock it (flock(2)), so nobody but root may open this one.

    Args:
        path: of the lock, in a folder of root's.
        what: is being done, and by whom: what others are told meanwhile.

    Raises:
        HeldError: another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+") as lock:
        os.fchmod(descriptor, 0o600)  # it may be there already, made when everybody could read it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeldError(_holder(path, lock.read())) from None
        lock.truncate(0)
        lock.write(f"{what}, since {now()}, pid {os.getpid()}\n{began(os.getpid())}\n")
        lock.flush()
        yield


def who_holds(path: Path) -> str:
    """Return what is being done by the process that holds a lock; empty where it has ended.

    Args:
        path: of the lock; it is not touched, so nobody is in anybody's way.
    """
    note = path.read_text() if path.exists() else ""
    return note.partition("\n")[0] if _is_true(note) else ""


def _is_true(note: str) -> bool:
    """Say whether the process that has left a note is still there."""
    said, _, moment = note.strip().partition("\n")
    pid = said.rpartition(" ")[2]
    return bool(pid.isdigit() and moment and began(int(pid)) == moment)


def _holder(path: Path, note: str) -> str:
    """Return what the note of a lock says, and whether that is still true."""
    said = note.strip().partition("\n")[0]
    if _is_true(note):
        return f"{said}, which is at work"
    said = f"{said}, which has ended" if said else "it does not say who it is"
    return f"{said}. Another process holds {path}; `lslocks --output PID,COMMAND,PATH` says which"
