"""Refuse a host whose memory does not do for what the inventory asks of it.

Runs on the computer that runs Ansible, with what the module `site_host_preflight` has found: how many
tasks run at once, say, may be a matter of the host's processors.
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.memory import fault_of_host
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.problem import Place, Problem
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.refusal import refuse


class ActionModule(ActionBase):
    """`site_host_memory:`, on every host."""

    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Compare what the host has with what it needs.

        Returns:
            A result that changed nothing.

        Raises:
            Refused: The host has too little memory.
        """
        super().run(tmp, task_vars)
        host = (task_vars or {}).get("inventory_hostname", "?")
        arguments = self._task.args
        memory, swap = arguments["memory_mb"], arguments["swap_mb"]
        fault = fault_of_host(memory, swap, arguments["always_mb"], arguments["at_times_mb"])
        if fault:
            example = (
                f"preflight_host_memory_mb: {memory}        (at your own risk; or a larger host, swap, fewer "
                "gunicorn_workers, less celery_worker_concurrency or redis_maxmemory_mb)"
            )
            refuse(f"The host {host}", [Problem(fault, Place(f"host {host}"), example)], "Nothing was changed.")
        return {"changed": False, "msg": f"{memory} MB of memory, {swap} MB of swap."}
