"""Keep two runs from changing a host at the same time."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

_PLUGINS = Path(__file__).resolve().parents[1]
# Ansible finds `module_utils` only for modules: what an action imports, Python itself must find.
if str(_PLUGINS) not in sys.path:
    sys.path.append(str(_PLUGINS))

from module_utils.site_lock import computer, lives, process  # noqa: E402


class ActionModule(ActionBase):
    """`site_run:`, at the beginning of every play that writes."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Claim the host for this run.

        Returns:
            A result that changed nothing.

        Raises:
            AnsibleActionFail: another run is at work there.
        """
        super().run(tmp, task_vars)
        arguments = {**self._task.args, "run": this_run()}
        result = self._claim(arguments, task_vars)
        held_by = result.get("held_by")
        if held_by and held_by["computer"] == computer() and not lives(held_by["process"]):
            result = self._claim({**arguments, "over": held_by}, task_vars)
            held_by = result.get("held_by")
        if held_by:
            raise AnsibleActionFail(f"another run is at work on this host: {described(held_by)}")
        return result

    def _claim(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return dict(self._execute_module(module_name="site_run", module_args=arguments, task_vars=task_vars))


def described(note: dict[str, Any]) -> str:
    """Return who is at work, and how it can be seen on the host."""
    words = f"{note['what']}, since {note['since']}"
    if note["computer"] == computer() or not note["connection"]:
        return words
    # `strategy = linear` keeps it for a minute, for a next run (ControlPersist, ssh_config(5)).
    pid = note["connection"][0]
    return f"{words}. Its connection to the host is process {pid} there, and may outlive it by a minute"


def this_run() -> dict[str, Any]:
    """Return what is said about this run on its hosts."""
    pid = os.getppid()  # this is one of its workers
    playbook = Path(context.CLIARGS["args"][0]).name
    what = f"{playbook} by {getpass.getuser()} on {socket.gethostname()}, pid {pid}"
    return {"what": what, "computer": computer(), "process": process(pid)}
