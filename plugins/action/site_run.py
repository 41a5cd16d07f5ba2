"""Keep two runs from changing a host at the same time."""

from __future__ import annotations

import getpass
import os
import socket
import time
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.celeriac.site.plugins.module_utils.site_claim import computer, lives, process

# OpenSSH keeps a connection for 60 seconds, for a next run (ControlPersist, ssh_config(5); Ansible's default).
LINGER_SECONDS = 70


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
        arguments = {**self._task.args, "run": this_run(self._connection)}
        until = time.monotonic() + LINGER_SECONDS
        while held_by := (found := self._held_by(arguments, task_vars)).get("held_by"):
            if held_by["computer"] == computer() or not held_by["lingers"] or time.monotonic() > until:
                words = f"{held_by['what']}, since {held_by['since']}"
                raise AnsibleActionFail(f"another run is at work on this host: {words}")
            time.sleep(2)
        return {"changed": False, "ansible_facts": {"site_cards": found["cards"], "site_firewall": found["firewall"]}}

    def _held_by(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Claim the host, also over a run of this computer that has ended; return who has it instead, and the cards."""
        found = self._claim(arguments, task_vars)
        held_by = found.get("held_by")
        if held_by and held_by["computer"] == computer() and not lives(held_by["process"]):
            found = self._claim({**arguments, "over": held_by}, task_vars)
        return found

    def _claim(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(
            module_name="celeriac.site.site_run", module_args=arguments, task_vars=task_vars
        )
        if result.get("failed"):
            raise AnsibleActionFail(result.get("msg", "the host could not be claimed"), result=result)
        return result


def this_run(connection: Any) -> dict[str, Any]:
    """Return what is said about this run on a host.

    Args:
        connection: Ansible's own to the host.
    """
    pid = os.getppid()  # this is one of its workers
    playbook = Path(context.CLIARGS["args"][0]).name
    what = f"{playbook} by {getpass.getuser()} on {socket.gethostname()}, pid {pid}"
    # Mitogen's connection ends with the run.
    lingers = type(connection).__module__ == "ansible.plugins.connection.ssh"
    return {"what": what, "computer": computer(), "process": process(pid), "lingers": lingers}
