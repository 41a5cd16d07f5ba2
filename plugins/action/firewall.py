"""Come back to a host over a new connection before its changed firewall is kept."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.celeriac.site.plugins.action.site_run import this_run

# A connection that was begun before the host took the ruleset back may come in after that.
MARGIN_SECONDS = 30
# Of what ssh_config(5) is told more than once, the first counts.
_ALONE = "-o ControlPath=none"


class ActionModule(ActionBase):
    """`firewall:`, for a host whose inventory wants one, or none any more."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Bring the firewall.

        Returns:
            The module's result.

        Raises:
            AnsibleActionFail: no new connection came in, and the host is as it was before.
        """
        super().run(tmp, task_vars)
        result = self._module(self._task.args, task_vars)
        if not result.get("armed"):
            return result
        seconds = int(self._task.args.get("confirm_seconds", 30))
        # An established connection goes through any ruleset, and so it proves nothing.
        confirmed = self._over_a_new_connection({**self._task.args, "state": "confirmed"}, seconds, task_vars)
        if confirmed.get("taken_back"):
            raise AnsibleActionFail(
                f"The firewall is as it was before: no new connection of Ansible was let in within {seconds} s "
                f"({confirmed['msg']}). On a slow network: firewall_confirm_seconds: 120",
                result=result,
            )
        return confirmed if confirmed.get("failed") else result

    def _over_a_new_connection(
        self, arguments: dict[str, Any], seconds: int, task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Run the module over a new connection, which is tried until the host has surely taken the ruleset back."""
        until = time.monotonic() + seconds + MARGIN_SECONDS
        while True:
            try:
                self._leave_connection()
                confirmed = self._module(arguments, task_vars)
                break
            except AnsibleConnectionFailure as error:
                if time.monotonic() > until:
                    raise AnsibleActionFail(
                        f"No connection of Ansible is let in any more, though the host has taken its changed firewall "
                        f"back {MARGIN_SECONDS} s ago: {error}"
                    ) from error
                time.sleep(1)
        # The host knows this run by its connection, which is another one now.
        claim = {"run": this_run(self._connection)}
        self._execute_module(module_name="celeriac.site.site_run", module_args=claim, task_vars=task_vars)
        return confirmed

    def _leave_connection(self) -> None:
        """Let what follows open another connection, also where SSH would go through one that is there already."""
        connection = self._connection
        if connection.transport == "local":
            return
        connection.reset()
        # Ansible's own plugin ends one that is shared (ControlMaster). Mitogen would go through it once more.
        if connection.transport == "ssh" and type(connection).__module__ != "ansible.plugins.connection.ssh":
            options = connection.get_option("ssh_args") or ""
            if _ALONE not in options:
                connection.set_option("ssh_args", f"{_ALONE} {options}")

    def _module(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(module_args=dict(arguments), task_vars=task_vars)
        return result
