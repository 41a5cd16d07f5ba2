"""Hand the module of this name what each file holds so that no log has it, and `--diff` still shows it."""

from __future__ import annotations

import base64
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """`files:`, for what a role has to put onto a host."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module.

        Returns:
            Its result.
        """
        super().run(tmp, task_vars)
        files = [_encoded(each) for each in self._task.args["files"]]
        result: dict[str, Any] = self._execute_module(module_args={"files": files}, task_vars=task_vars)
        return result


def _encoded(wanted: dict[str, Any]) -> dict[str, Any]:
    if "content" not in wanted:
        return wanted
    return {**wanted, "content": base64.b64encode(str(wanted["content"]).encode()).decode()}
