"""Run a playbook the way a person does, or start one and kill it on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from stack.playbook import REPOSITORY, Run

# Longer than any run takes on a busy computer: a run that hangs is a failed test, not a lost night.
RUN_SECONDS = 1200


class Play:
    """An ansible-playbook that runs.

    Args:
        playbook: its path in the repository.
        inventory: for `-i`.
        arguments: more arguments.
        log: a file for what it prints.
    """

    def __init__(self, playbook: str, inventory: Path, *arguments: str, log: Path) -> None:
        self.began = time.time()
        self.ended = self.began
        self._log = log
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment |= {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        environment["PYTHONUNBUFFERED"] = "1"
        with log.open("w") as output:
            self._process = subprocess.Popen(
                ["ansible-playbook", "--inventory", str(inventory), *arguments, playbook],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text()

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began

    def running(self) -> bool:
        """Say whether it has not ended."""
        return self._process.poll() is None

    def wait(self, seconds: float = RUN_SECONDS) -> Run:
        """Wait until it has ended; a run that hangs is killed, and counts as one that was.

        Args:
            seconds: longer than it takes.
        """
        hung = ""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            hung = f"\nkilled: it had not ended after {seconds:g} s"
            self.kill()
        self.ended = time.time()
        return Run(self._process.returncode, self.output + hung)

    def kill(self) -> None:
        """Kill it with everything that it has started on this computer."""
        # Mitogen's connections and ssh are in sessions of their own: a process group is not all of it.
        for process in reversed(with_descendants(self._process.pid)):
            with contextlib.suppress(ProcessLookupError):  # it ended while the others were killed
                os.kill(process, signal.SIGKILL)
        self._process.wait()
        self.ended = time.time()


def with_descendants(process: int) -> list[int]:
    """Return a process and all that it has started, the youngest last; nothing where it has ended."""
    try:
        children = [
            int(word)
            for file in Path(f"/proc/{process}/task").iterdir()
            for word in (file / "children").read_text().split()
        ]
    except OSError:
        return []
    return [process, *(each for child in children for each in with_descendants(child))]
