"""Refuse an inventory that cannot work, with one message, before any host is touched.

Runs on the computer that runs Ansible and needs no connection. It reads the inventory sources of the run, what
`-e` sets, and the argument specs of this repository's roles. With `packages: true` what is right then gets its exact
versions: that there are any is the last thing to be known here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.bundle import read_bundle
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.check import View, problems_of
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.inventory import Inventory
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.problem import Problem
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.refusal import refuse
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.errors import LockError
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.projects import Wanted
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.resolve import resolve

_COLLECTION = Path(__file__).resolve().parents[2]


class ActionModule(ActionBase):
    """`site_preflight:`, once a run."""

    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the inventory.

        Returns:
            A result that says whether the file of exact versions was written.

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
        hosts = f"Hosts: {', '.join(inventory.hosts)}."
        changed = bool(self._task.args["packages"]) and self._lock(View(inventory))
        return {"changed": changed, "msg": hosts}

    def _lock(self, site: View) -> bool:
        """Let there be exact versions, say what was done for them, and whether anything was."""
        first = site.hosts[0]
        wanted, kept = Wanted.from_fact(site.value(first, "site_project")), Path(site.value(first, "site_lock_file"))
        anew = site.value(first, "site_relock") == "true"
        with tempfile.TemporaryDirectory() as scratch:
            into = Path(scratch) / kept.name if self._task.check_mode else None
            try:
                locked = resolve(wanted, kept, anew=anew, into=into)
            except LockError as error:
                problem = Problem(str(error), site.place(first, error.choice), error.remedy)
                refuse("The inventory", [problem], "No host was touched.")
        if locked.remark:
            Display().display(locked.remark)
        return bool(locked.remark)
