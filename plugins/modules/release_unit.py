#!/usr/bin/python
"""Let one of our services run from a release."""

from __future__ import annotations

import difflib
import os
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.systemd import UNIT_DIRECTORY, Systemd, SystemdError, newest_change

DOCUMENTATION = r"""
module: release_unit
short_description: A service runs from a release
description:
  - Writes C(<name>-<release>.service), starts it, and makes the plain C(<name>.service) a symlink
    to it, in this order. The service of
    the release before is asked to stop after that, and drains by itself. Until the new one is ready
    the plain name and the old process are untouched.
  - Restarts the service when its unit or one of the files it reads is younger than the process.
options:
  name:
    description: The plain name, without C(.service).
    type: str
    required: true
  release:
    description: The release that is to serve.
    type: str
    required: true
  content:
    description: Text of the unit.
    type: str
    required: true
  files:
    description: Other files that the process reads when it starts, such as its EnvironmentFile.
    type: list
    elements: path
    default: []
  target:
    description: The target that wants the service.
    type: str
    required: true
  overlap:
    description:
      - Whether the old and the new process may run at the same time. With false the old one is
        stopped first.
    type: bool
    default: true
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The worker runs from the new release
  release_unit:
    name: celery-worker
    release: 0123456789ab
    target: site.target
    content: "{{ lookup('ansible.builtin.template', 'celery-worker.service.j2') }}"
"""

RETURN = r"""
was:
  description: The unit that served before, empty for none.
  returned: always
  type: str
"""


class ReleaseUnit:
    """The unit of one service in one release, and the plain name that points to it."""

    def __init__(self, systemd: Systemd, parameters: dict[str, Any]) -> None:
        name, release = parameters["name"], parameters["release"]
        self.systemd = systemd
        self.content: str = parameters["content"]
        self.files: list[str] = parameters["files"]
        self.overlap: bool = parameters["overlap"]
        self.name: str = name
        self.unit = UNIT_DIRECTORY / f"{name}-{release}.service"
        self.alias = UNIT_DIRECTORY / f"{name}.service"
        self.wants = UNIT_DIRECTORY / f"{parameters['target']}.wants" / self.alias.name

    def serving(self) -> str:
        """Return the unit that the plain name stands for, empty for none."""
        return str(self.alias.readlink()) if self.alias.is_symlink() else ""

    def old_content(self) -> str:
        """Return what the serving unit says, empty for none: what a change is compared with."""
        return self.alias.read_text() if self.alias.exists() else ""

    def written(self) -> bool:
        """Say whether the unit is on disk as it should be."""
        return self.unit.exists() and bool(self.unit.read_text() == self.content)

    def linked(self) -> bool:
        """Say whether the plain name stands for this unit, and the target wants it."""
        return bool(self.serving() == self.unit.name) and self.wants.is_symlink()

    def is_current(self) -> bool:
        """Say whether the process runs, and started after its unit and its files last changed."""
        started = self.systemd.started_at(self.unit.name, reloads=False)
        return started is not None and newest_change([self.unit, *self.files]) <= started

    def leftovers(self) -> list[Path]:
        """Return units of other releases of this service, whether they run or not."""
        # A release is 12 hexadecimal digits; anything longer belongs to a pool of its own.
        pattern = f"{self.name}-{'[0-9a-f]' * 12}.service"
        return [path for path in UNIT_DIRECTORY.glob(pattern) if path not in {self.unit, self.alias}]

    def converge(self) -> None:
        """Bring everything into place.

        Raises:
            SystemdError: the new process did not become ready. The old one still serves.
        """
        before = self.serving()
        if not self.written():
            write_atomically(self.unit, self.content)
            self.systemd.call("daemon-reload")
        if not before:
            # A first release: nothing serves that could be lost, and a socket starts only when the
            # service of its name is known.
            self._link()
        if not self.is_current():
            self._start(before)
        if not self.linked():
            self._link()
        self._retire()

    def _link(self) -> None:
        self.wants.parent.mkdir(exist_ok=True)
        link_atomically(self.wants, f"../{self.alias.name}")
        link_atomically(self.alias, self.unit.name)
        self.systemd.call("daemon-reload")

    def _start(self, before: str) -> None:
        replaces = before not in {"", self.unit.name}
        if replaces and not self.overlap:
            self.systemd.call("stop", before)
        try:
            self.systemd.start(self.unit.name, "restart")
        except SystemdError:
            if replaces:
                self.systemd.call("stop", "--no-block", self.unit.name)
                self.systemd.call("start", "--no-block", before)
            raise

    def _retire(self) -> None:
        """Stop what other releases still run (they drain), and forget those that have ended."""
        ended = []
        for path in self.leftovers():
            state = self.systemd.properties(path.name, "ActiveState")["ActiveState"]
            if state in {"active", "activating", "reloading"}:
                self.systemd.call("stop", "--no-block", path.name)
            elif state in {"inactive", "failed"}:
                ended.append(path)
        for path in ended:
            path.unlink()
        if ended:
            self.systemd.call("daemon-reload")


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        os.fchmod(descriptor, 0o644)
        stream.flush()
        os.fsync(descriptor)
    Path(temporary).replace(path)


def link_atomically(link: Path, target: str) -> None:
    """Make a symlink, in one step also where one is already."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def describe(unit: ReleaseUnit) -> dict[str, str]:
    """Return the change of the unit as Ansible shows it under --diff."""
    before = unit.old_content()
    if before == unit.content:
        return {}
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        unit.content.splitlines(keepends=True),
        fromfile=unit.serving() or "(none)",
        tofile=unit.unit.name,
    )
    return {"prepared": "".join(lines)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "release": {"type": "str", "required": True},
            "content": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "path", "default": []},
            "target": {"type": "str", "required": True},
            "overlap": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    unit = ReleaseUnit(Systemd(module.run_command), module.params)
    was, diff = unit.serving(), describe(unit)
    try:
        changed = not (unit.written() and unit.linked() and unit.is_current())
        if not module.check_mode:
            unit.converge()
    except SystemdError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, was=was, diff=diff)


if __name__ == "__main__":
    main()
