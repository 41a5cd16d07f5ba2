"""One at a time on a host, for a run of a playbook: a note of who is at work, and how others see whether that lives.

A run is many short processes on the host, so no lock of the kernel lasts from its first to its last. What lasts is
its process on the computer that runs Ansible, and its connection to the host: it leaves a note that names both.
Whoever can see one of them says whether the run lives: that computer of its own runs, the host of all others.

The action plugin of `site_run` imports this on the computer that runs Ansible: it needs no other file of ours.
"""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Gone after a reboot, as every run is.
NOTE = "/run/site-run.json"
# What a connection of SSH is served by on the host.
SERVERS = ("(sshd", "(dropbear")


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
