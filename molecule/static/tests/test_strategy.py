"""How tasks are run on the computer that runs Ansible."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

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


# Says which process has compiled a template.
COUNTING = """
import os
from ansible._internal._templating import _jinja_bits

original = _jinja_bits.AnsibleEnvironment._generate
def counted(self, source, *args, **kwargs):
    with open(os.environ["COMPILED"], "a") as file:
        print(os.getpid(), file=file)
    return original(self, source, *args, **kwargs)
_jinja_bits.AnsibleEnvironment._generate = counted
class FilterModule:
    def filters(self):
        return {"same": lambda value: value}
"""
REPEATED = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    first: "{{ 'a' | same }}"
    second: "{{ first }}"
    third: "{{ first ~ second }}"
    fourth: "{{ first ~ second ~ third }}"
    fifth: "{{ first ~ second ~ third ~ fourth }}"
    own: before
    read: "{{ lookup('ansible.builtin.template', 'repeated.j2', template_vars={'own': 'within'}) }}"
  tasks:
    - ansible.builtin.debug: { msg: "{{ fifth }}" }
    - ansible.builtin.debug: { msg: "{{ read }} and {{ own }}" }
"""


def test_a_template_is_compiled_once_a_task(tmp_path: Path) -> None:
    """What others rest on was compiled as often as they ask for it: eight times here."""
    folder = tmp_path / "filters"
    folder.mkdir()
    (folder / "counting.py").write_text(COUNTING)
    (tmp_path / "site.yml").write_text(REPEATED)
    (tmp_path / "repeated.j2").write_text("{{ fifth }} {{ own }}")
    compiled = tmp_path / "compiled"

    done = subprocess.run(
        [ANSIBLE, "--inventory=localhost,", tmp_path / "site.yml"],
        cwd=ROOT,
        env=os.environ | {"COMPILED": str(compiled), "ANSIBLE_FILTER_PLUGINS": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f'"msg": "{"a" * 8}"' in done.stdout
    assert f'"msg": "{"a" * 8} within and before"' in done.stdout
    # The variables, the file, and the task.
    assert max(Counter(compiled.read_text().split()).values()) <= 8


# A role of somebody else's.
ASKED = "argument_specs: { main: { options: { asked_number: { type: int, default: 1, description: A number. } } } }"
CHECKED = """
- hosts: localhost
  connection: local
  gather_facts: false
  roles: [{ role: celeriac.site.preflight_inventory, tags: [preflight] }]
- hosts: localhost
  connection: local
  gather_facts: false
  roles: [celeriac.site.preflight_inventory, asked]
"""


@pytest.mark.parametrize("words", [(), ("--skip-tags=preflight",)])
def test_what_preflight_has_checked_no_role_checks_again(
    inventory: Any, ansible_playbook: Any, tmp_path: Path, words: tuple[str, ...]
) -> None:
    meta = tmp_path / "roles/asked/meta"
    meta.mkdir(parents=True)
    (meta / "argument_specs.yml").write_text(ASKED)
    (tmp_path / "site.yml").write_text(CHECKED)
    source = json.dumps({"site_source": str(ROOT / "site")})
    sure = {"ANSIBLE_STRATEGY": "celeriac.site.mitogen_linear", "ANSIBLE_STDOUT_CALLBACK": "default"}

    done = ansible_playbook(
        "--inventory", inventory.folder, "--extra-vars", source, *words, tmp_path / "site.yml", **sure
    )

    assert done.returncode == 0, done.stdout
    # In the first play, or where that was left out, in the second.
    assert done.stdout.count("preflight_inventory : Validating arguments") == 1
    assert done.stdout.count("asked : Validating arguments") == 1
