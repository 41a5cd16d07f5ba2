"""How tasks are run on the computer that runs Ansible."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ANSIBLE = Path(sys.executable).parent / "ansible-playbook"
# Says in a file that it is loaded, and in which process.
PLUGIN = """
import os

with open(os.environ["LOADED"], "a") as file:
    print(os.getpid(), file=file)


class {kind}Module:
    def {method}s(self):
        return {{"marked": lambda value: True}}
"""
# Each task has a process of its own, and a template that calls both.
PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - {task}
    - {task}
    - {task}
"""
TASK = 'ansible.builtin.debug: { msg: "{{ 1 | marked and 1 is marked }}" }'


def test_what_templates_call_is_loaded_once_a_run(tmp_path: Path) -> None:
    """Not once a task: that was a tenth of a second each, for passlib is behind Ansible's own filters."""
    for kind in ("Filter", "Test"):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "marked.py").write_text(PLUGIN.format(kind=kind, method=kind.lower()))
    (tmp_path / "site.yml").write_text(PLAYBOOK.format(task=TASK))
    loaded = tmp_path / "loaded"

    done = subprocess.run(
        [ANSIBLE, "--inventory=localhost,", tmp_path / "site.yml"],
        cwd=ROOT,
        env=os.environ
        | {
            "LOADED": str(loaded),
            "ANSIBLE_FILTER_PLUGINS": str(tmp_path / "Filter"),
            "ANSIBLE_TEST_PLUGINS": str(tmp_path / "Test"),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('"msg": true') == 3
    assert len(loaded.read_text().splitlines()) == 2  # the filter and the test
