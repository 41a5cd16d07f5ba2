"""Refuse an inventory that cannot work, with one message, before any host is touched.

Runs on the computer that runs Ansible and needs no connection. It takes no arguments: it reads
the inventory sources of the run, what `-e` sets, and the argument specs of this repository's roles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.bundle import read_bundle
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.check import problems_of
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.inventory import Inventory
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.refusal import refuse

_COLLECTION = Path(__file__).resolve().parents[2]


class ActionModule(ActionBase):
    """`site_preflight:`, once a run."""

    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the inventory.

        Returns:
            A result that changed nothing.

        Raises:
            Refused: The inventory has problems.
        """
        super().run(tmp, task_vars)
        sources = context.CLIARGS.get("inventory") or ()
        extra = load_extra_vars(self._loader)
        inventory = Inventory(read_bundle(_COLLECTION), self._loader, list(sources), extra)
        problems = list(dict.fromkeys(problems_of(inventory)))
        if problems:
            refuse("The inventory", problems, "No host was touched.")
        return {"changed": False, "msg": f"Hosts: {', '.join(inventory.hosts)}."}
