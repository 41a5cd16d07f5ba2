"""Let hosts go back one after the other: where it does not pass on one, the next are not begun."""

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
        variables = task_vars or {}

        def back() -> dict[str, Any]:
            return dict(self._execute_module(task_vars=task_vars))

        if self._task.check_mode:
            return back()
        return Turns("rollback").take(variables["inventory_hostname"], variables["ansible_play_hosts"], back)
