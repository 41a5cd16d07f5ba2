#!/usr/bin/python
"""Put several files onto a host in one round trip."""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_files import (
    link_atomically,
    remove,
    write_atomically,
)

DOCUMENTATION = r"""
module: files
short_description: Several files, folders and symlinks are as they should be
description:
  - Does what a task each with M(ansible.builtin.template), M(ansible.builtin.copy) and
    M(ansible.builtin.file) does, in one round trip
    for all of them, and in their order. Of a run that changes nothing such tasks were a third.
  - A file is there whole or not at all, also after a power cut. What a file holds is in no log.
options:
  files:
    description: Each of them.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where it is.
        type: path
        required: true
      state:
        description: C(absent) takes a folder with all that is in it.
        type: str
        choices: [file, directory, link, absent]
        default: file
      content:
        description: What a file holds, a text.
        type: str
      src:
        description: Where a symlink points to.
        type: str
      owner:
        description: The account.
        type: str
        default: root
      group:
        description: The group.
        type: str
        default: root
      mode:
        description: As M(ansible.builtin.file) has it; 0755 of a folder, else 0644, where nothing is said.
        type: raw
      secret:
        description: What it holds is not shown by C(--diff) either.
        type: bool
        default: false
      validate:
        description:
          - A command that must take the new file, C(%s) in it, before it takes the place of the old one;
            as M(ansible.builtin.template) has it.
        type: str
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The socket of gunicorn is open from the boot on
  celeriac.site.files:
    files:
      - path: /etc/systemd/system/gunicorn.socket
        content: "{{ lookup('ansible.builtin.template', 'gunicorn.socket.j2') }}"
      - { path: /etc/systemd/system/site.target.wants/gunicorn.socket, state: link, src: ../gunicorn.socket }
"""

RETURN = r"""
changed_files:
  description: Where something was changed, or would be.
  returned: always
  type: list
  elements: str
"""

# The action plugin of this name encodes what a file holds: what hides it from logs would hide it from `--diff`, too.
OPTIONS: dict[str, dict[str, Any]] = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["file", "directory", "link", "absent"], "default": "file"},
    "content": {"type": "str", "no_log": True},
    "src": {"type": "str"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "raw"},
    "secret": {"type": "bool", "default": False, "no_log": False},
    "validate": {"type": "str"},
}


def link(path: Path, target: str, *, check: bool) -> bool:
    """Let a symlink point somewhere; return whether that is new."""
    if path.is_symlink() and str(path.readlink()) == target:
        return False
    if not check:
        link_atomically(path, target)
    return True


def make_folder(path: Path, *, check: bool) -> bool:
    """Make a folder, and those above it; return whether it is new."""
    if path.is_dir():
        return False
    if not check:
        path.mkdir(parents=True)
    return True


class RefusedError(Exception):
    """A command does not take what a file is to hold; the message is what it said."""


def validate(module: AnsibleModule, command: str, content: bytes) -> None:
    """Let a command look at what a file is to hold.

    Raises:
        RefusedError: it does not take it.
    """
    with tempfile.NamedTemporaryFile(dir=module.tmpdir) as file:
        file.write(content)
        file.flush()
        code, output, error = module.run_command(command.replace("%s", file.name))
    if code != 0:
        raise RefusedError(str(error or output).strip() or f"{command} ended with {code}")


def write(module: AnsibleModule, path: Path, content: bytes, command: str | None) -> str | None:
    """Let a file hold something.

    Args:
        module: which knows whether it may.
        path: of the file.
        content: what it is to hold.
        command: must take it before; None for nobody.

    Returns:
        What it held before, where that is something else, or it was not there; None where nothing is to be changed.

    Raises:
        RefusedError: the command does not take it.
    """
    before = path.read_bytes() if path.is_file() else None
    if before == content and not path.is_symlink():
        return None
    if not module.check_mode:
        if command:
            validate(module, command, content)
        # Nobody else reads it, until it has its mode.
        write_atomically(path, content, 0o600)
    return (before or b"").decode(errors="replace")


def put(module: AnsibleModule, wanted: Mapping[str, Any], diffs: list[dict[str, str]]) -> bool:
    """Put one of them onto the host.

    Args:
        module: which knows whether it may, and sets who may do what.
        wanted: its options.
        diffs: what `--diff` shows, which grows.

    Returns:
        Whether something was changed, or would be.

    Raises:
        RefusedError: a command does not take what a file is to hold.
    """
    path, state, check = Path(wanted["path"]), wanted["state"], module.check_mode
    if state == "absent":
        return os.path.lexists(path) if check else remove(path)
    if state == "link":
        return link(path, wanted["src"], check=check)
    if state == "directory":
        changed = make_folder(path, check=check)
    else:
        content = base64.b64decode(wanted["content"])
        before = write(module, path, content, wanted["validate"])
        changed = before is not None
        if before is not None and not wanted["secret"]:
            header = {"before_header": str(path), "after_header": str(path)}
            diffs.append({**header, "before": before, "after": content.decode(errors="replace")})
    if not path.exists():  # under --check
        return changed
    attributes = {
        "path": str(path),
        "owner": wanted["owner"],
        "group": wanted["group"],
        "mode": wanted["mode"] or ("0755" if state == "directory" else "0644"),
        "secontext": [None, None, None],
        "attributes": None,
    }
    return bool(module.set_fs_attributes_if_different(attributes, changed))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": OPTIONS,
                "required_if": [("state", "file", ["content"]), ("state", "link", ["src"])],
            }
        },
        supports_check_mode=True,
    )
    changed: list[str] = []
    diffs: list[dict[str, str]] = []
    for wanted in module.params["files"]:
        try:
            if put(module, wanted, diffs):
                changed.append(wanted["path"])
        except RefusedError as error:
            module.fail_json(msg=f"{wanted['path']} was left as it was: {error}", changed_files=changed)
        except OSError as error:
            module.fail_json(msg=f"{wanted['path']}: {error.strerror or error}", changed_files=changed)
    module.exit_json(changed=bool(changed), changed_files=changed, diff=diffs)


if __name__ == "__main__":
    main()
