"""One at a time on a host: what is locked is free again when whoever locked it has ended, however.

A step of one process holds a lock of the kernel. A run of a playbook is many short processes on the host, so
no lock of the kernel lasts from its first to its last. What lasts is its process on the computer that runs
Ansible, and its connection to the host: it leaves a note that names both. Whoever can see one of them says
whether the run lives: that computer of its own runs, the host of all others.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Gone after a reboot, as every run is.
NOTE = "/run/site-run.json"
# What a connection of SSH is served by on the host.
SERVERS = ("(sshd", "(dropbear")


class HeldError(Exception):
    """Somebody else has the lock; the message says who."""


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


def _holder(path: Path, note: str) -> str:
    """Return what the note of a lock says, and whether that is still true."""
    said, _, moment = note.strip().partition("\n")
    pid = said.rpartition(" ")[2]
    if pid.isdigit() and moment and began(int(pid)) == moment:
        return f"{said}, which is at work"
    said = f"{said}, which has ended" if said else "it does not say who it is"
    return f"{said}. Another process holds {path}; `lslocks --output PID,COMMAND,PATH` says which"


def began(pid: int) -> str:
    """Return when a process began, in ticks since the boot (proc_pid_stat(5)); empty for one that has ended.

    Together with the number it is a name that no other process gets.
    """
    try:
        # The name of the program may hold anything, a parenthesis too.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]


def now() -> str:
    """Return the time, for people."""
    return f"{datetime.now(UTC):%F %T} UTC"


def computer() -> str:
    """Return a name for all processes that can see each other: those of one boot and one name space."""
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"


def process(pid: int) -> list[Any]:
    """Return a name for a process that no other gets: its number, and when it began."""
    return [pid, began(pid)]


def lives(name: list[Any]) -> bool:
    """Say whether the process of this name has not ended."""
    return bool(name) and process(name[0]) == name and bool(name[1])


def connection() -> list[Any]:
    """Return the process that serves the connection over which this one was started; empty for none."""
    pid = os.getpid()
    while pid > 1:
        name, _, fields = Path(f"/proc/{pid}/stat").read_text().partition(" ")[2].rpartition(")")
        if name.startswith(SERVERS):
            return process(pid)
        pid = int(fields.split()[1])
    return []


def claim(path: Path, run: dict[str, Any], over: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Write down that a run is at work here, unless another one is.

    Args:
        path: of the note.
        run: `what` it is, the `computer` that it runs on, and its `process` there.
        over: a note of the same computer, of a run that has ended.

    Returns:
        The note of the other one; of the same computer, that one may have ended. None where the run may go on.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = file.read()
        note: dict[str, Any] = json.loads(text) if text else {}
        same = {name: note.get(name) for name in run} == run
        if note and not same and note != over and _may_live(note, run["computer"]):
            return note
        file.seek(0)
        file.truncate()
        since = note["since"] if same else now()
        json.dump({**run, "since": since, "connection": connection()}, file)
    return None


def _may_live(note: dict[str, Any], asking: str) -> bool:
    """Say whether the run of a note may be at work, as far as this host can see."""
    if note["computer"] == asking:
        return True  # that computer knows
    return lives(note["process"] if note["computer"] == computer() else note["connection"])
