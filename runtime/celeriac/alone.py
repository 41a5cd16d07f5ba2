"""``python -m celeriac.alone PROGRAM WORD…`` runs a program while no other run of its unit does.

systemd runs a unit once at a time, but a new release has a unit of its own. The lock is a file in ``HOME``, the folder
that all releases of a unit share, and it goes with the last process that has it open.
"""

import fcntl
import os
import sys
from pathlib import Path

LOCK = "alone.lock"


def main(words: list[str]) -> None:
    """Wait for the lock, and become the program.

    Args:
        words: of the command.
    """
    lock = os.open(Path(os.environ["HOME"]) / LOCK, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another release runs this still; it is waited for", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    os.set_inheritable(lock, True)
    os.execvp(words[0], words)


if __name__ == "__main__":
    main(sys.argv[1:])
