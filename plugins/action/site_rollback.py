"""Let hosts go back one after the other, and all of them or none."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.celeriac.site.plugins.plugin_utils.turns import Turns


class ActionModule(ActionBase):
    """The control side of the module `site_rollback`."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        super().run(tmp, task_vars)
        arguments, variables = dict(self._task.args), task_vars or {}
        host, hosts, turns = variables["inventory_hostname"], variables["ansible_play_hosts_all"], Turns("rollback")

        def back(**more: str) -> dict[str, Any]:
            result = dict(self._execute_module(module_args={**arguments, **more}, task_vars=task_vars))
            return {**result, "begun": {"release": result.get("release", "")}}

        if arguments.get("part") == "end":
            if self._task.check_mode:
                return {"changed": False}
            return turns.end(
                host,
                hosts,
                lambda begun: back(**begun, part="record"),
                lambda why: back(release="", part="undo", why=why),
            )
        if arguments.get("part") == "begin" and not self._task.check_mode:
            return turns.take(host, back)
        return back()
