"""Commands, and waits for what they bring about."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from nspawn.errors import MachineError


def run(*command: str | Path, stdin: str = "") -> str:
    """Run a command.

    Args:
        command: its words.
        stdin: what it reads.

    Returns:
        What it printed.

    Raises:
        MachineError: it failed; with its complaint.
    """
    words = [str(word) for word in command]
    # With our open files, it has our locks: should we be killed, it keeps them until it has ended.
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False, close_fds=False)
    if done.returncode:
        complaint = (done.stderr or done.stdout).strip()
        raise MachineError(f"`{shlex.join(words)}` failed with {done.returncode}: {complaint}")
    return done.stdout


def try_to_run(*command: str) -> None:
    """Run a command whose failure means that there was nothing to do."""
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def wait_until(happened: Callable[[], bool], seconds: float, complaint: str) -> None:
    """Return as soon as it has happened.

    Args:
        happened: tells whether it has.
        seconds: how long to wait.
        complaint: the error's text.

    Raises:
        MachineError: it has not happened in time.
    """
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise MachineError(complaint)
        time.sleep(0.05)
