"""Playbooks, run as a person would run them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cli.places import CONFIGURATION, PLAYBOOKS, PROGRAMS

# One line a step in place of one a task; `-v`, say, is for those who want to see tasks.
CALLBACK = "celeriac.site.steps"


def run(playbook: str, inventory: Path, words: Sequence[str] = ()) -> int:
    """Run a playbook, and return its exit status.

    Args:
        playbook: the name of the file without its end.
        inventory: of which hosts.
        words: more for `ansible-playbook`.
    """
    command = [PROGRAMS / "ansible-playbook", "-i", inventory, *words, PLAYBOOKS / f"{playbook}.yml"]
    return subprocess.run([*map(str, command)], env=environment(), check=False).returncode


def environment() -> Mapping[str, str]:
    """Return the environment in which Ansible is run from any folder."""
    ours = {"ANSIBLE_CONFIG": str(CONFIGURATION), "ANSIBLE_STDOUT_CALLBACK": CALLBACK}
    return {**ours, **os.environ, "PATH": f"{PROGRAMS}:{os.environ.get('PATH', os.defpath)}"}
