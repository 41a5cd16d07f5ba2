"""Run `ansible-playbook site.yml` the way a person does."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    status: int
    output: str

    @property
    def changed(self) -> int:
        """How many tasks changed something, on all hosts."""
        return self._counted("changed")

    @property
    def trouble(self) -> int:
        """How many tasks failed or found their host away."""
        return self._counted("failed") + self._counted("unreachable")

    def _counted(self, word: str) -> int:
        counts = re.findall(rf"^\S+ +: .*\b{word}=(\d+)", self.output, re.MULTILINE)
        assert counts, f"the run has no recap:\n{self.output}"
        return sum(map(int, counts))

    def ran(self, task: str) -> bool:
        """Say whether a task was run, or found everything as it should be."""
        # With -v a line between the two says where the task is written.
        pattern = rf"^TASK \[{re.escape(task)}\] \*+\n(task path: .*\n)?(ok|changed): "
        return re.search(pattern, self.output, re.MULTILINE) is not None


def run_site(inventory: Path, *arguments: str, strategy: str = "") -> Run:
    """Run site.yml against an inventory.

    Args:
        inventory: the inventory, for `-i`.
        arguments: more arguments for ansible-playbook.
        strategy: the strategy instead of the one in ansible.cfg.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment["ANSIBLE_CONFIG"] = str(REPOSITORY / "ansible.cfg")
    environment["ANSIBLE_NOCOLOR"] = "1"
    if "ANSIBLE_LOG_PATH" in os.environ:
        environment["ANSIBLE_LOG_PATH"] = os.environ["ANSIBLE_LOG_PATH"]
    if strategy:
        environment["ANSIBLE_STRATEGY"] = strategy
    done = subprocess.run(
        ["ansible-playbook", "--inventory", str(inventory), *arguments, "site.yml"],
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Run(done.returncode, done.stdout)
