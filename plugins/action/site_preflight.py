"""Refuse an inventory that cannot work, with one message, before any host is touched.

Runs on the computer that runs Ansible and needs no connection. It takes no arguments: it reads
the inventory sources of the run, what `-e` sets, and the argument specs of this repository's roles.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

_PLUGINS = Path(__file__).resolve().parents[1]
# Ansible finds `module_utils` only for modules: what an action imports, Python itself must find.
if str(_PLUGINS) not in sys.path:
    sys.path.append(str(_PLUGINS))

from preflight.bundle import read_bundle  # noqa: E402
from preflight.check import problems_of  # noqa: E402
from preflight.inventory import Inventory  # noqa: E402
from preflight.refusal import refuse  # noqa: E402


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
        inventory = Inventory(read_bundle(_PLUGINS.parent), self._loader, list(sources), extra)
        problems = list(dict.fromkeys(problems_of(inventory)))
        if problems:
            refuse("The inventory", problems, "No host was touched.")
        return {"changed": False, "msg": f"Hosts: {', '.join(inventory.hosts)}."}
