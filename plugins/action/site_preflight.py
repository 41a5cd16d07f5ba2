"""Refuse an inventory that cannot work, with one message, before any host is touched.

Runs on the computer that runs Ansible and needs no connection. It reads the inventory sources of the run, what
`-e` sets, and the argument specs of this repository's roles. With `packages: true` what is right then gets its exact
versions: that there are any is the last thing to be known here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars
from ansible_collections.celeriac.site.plugins.plugin_utils.origin.fetch import fetched
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.bundle import read_bundle
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.check import View, problems_of
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.inventory import Inventory
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.losses import told
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.problem import Problem
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.refusal import refuse
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.source import SourceError
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.errors import LockError
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.projects import Wanted
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.resolve import resolve

_COLLECTION = Path(__file__).resolve().parents[2]
# Which playbooks say what a lost host costs: those about the whole site, which nobody runs all the time.
SAID_BY = {"site.yml", "preflight.yml"}
_COMFORT = "No host was touched."


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
        _refuse_any(problems_of(inventory))
        if SAID_BY.intersection(Path(name).name for name in context.CLIARGS.get("args") or ()):
            for line in told(View(inventory)):
                Display().display(line)
        changed = bool(self._task.args["packages"]) and self._make_exact(inventory)
        return {"changed": changed, "msg": f"Hosts: {', '.join(inventory.hosts)}."}

    def _make_exact(self, inventory: Inventory) -> bool:
        """Let it be known what exactly is shipped, say what was done for that, and whether anything was."""
        site = View(inventory)
        first = site.hosts[0]
        project, anew = site.value(first, "site_project"), site.value(first, "site_relock") == "true"
        try:
            source = fetched(project, ask=True, anew=anew, write=not self._task.check_mode)
        except SourceError as error:
            refuse("The inventory", [Problem(str(error), site.place(first, "site_source"), error.remedy)], _COMFORT)
        if source.exact:
            _refuse_any(problems_of(inventory, source.folder))
        if source.remark:
            Display().display(source.remark)
        locked = self._lock(site, Wanted.from_fact(project, source.folder), anew=anew)
        return bool(source.remark or locked)

    def _lock(self, site: View, wanted: Wanted, *, anew: bool) -> bool:
        """Let there be exact versions, say what was done for them, and whether anything was."""
        first = site.hosts[0]
        kept = Path(site.value(first, "site_lock_file"))
        with tempfile.TemporaryDirectory() as scratch:
            into = Path(scratch) / kept.name if self._task.check_mode else None
            try:
                locked = resolve(wanted, kept, anew=anew, into=into)
            except LockError as error:
                problem = Problem(str(error), site.place(first, error.choice), error.remedy)
                refuse("The inventory", [problem], _COMFORT)
        if locked.remark:
            Display().display(locked.remark)
        return bool(locked.remark)


def _refuse_any(problems: Iterable[Problem]) -> None:
    if found := list(dict.fromkeys(problems)):
        refuse("The inventory", found, _COMFORT)
