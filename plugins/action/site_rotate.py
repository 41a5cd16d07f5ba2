"""Let secrets of the inventory be made anew; on the computer that runs Ansible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.celeriac.site.plugins.plugin_utils.rotation import ROTATED, RotationError, chosen, rotate


class ActionModule(ActionBase):
    """`site_rotate:`, once a run."""

    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Take the secrets away that are named.

        Returns:
            A result that names them.

        Raises:
            AnsibleActionFail: one of them cannot be made anew.
        """
        super().run(tmp, task_vars)
        folder = Path(self._task.args["folder"])
        own = [name for name in task_vars or {} if name.startswith("vault_")]
        try:
            names = chosen(folder, str(self._task.args["secrets"]), own)
        except RotationError as error:
            there = ", ".join(name for name in ROTATED if (folder / name).exists())
            raise AnsibleActionFail(
                f"Nothing was changed: {error}. "
                f"Say which: -e secret=redis_password, several with commas, or -e secret=all. There are: {there}."
            ) from error
        if not self._task.check_mode:
            rotate(folder, names, signed_holds=bool(self._task.args["signed_holds"]))
        return {"changed": True, "msg": f"Made anew: {', '.join(names)}."}
