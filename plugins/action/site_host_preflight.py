"""Print what the module `site_host_preflight` found on a host as one message, and fail on any.

It also turns the many ways in which one can fail to become root into a sentence that helps.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.celeriac.site.plugins.module_utils.site_systems import NEWEST
from ansible_collections.celeriac.site.plugins.plugin_utils.origin.fetch import fetched
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.access import explain
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.problem import Place, Problem
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.refusal import refuse
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.projects import Wanted, read_project


class ActionModule(ActionBase):
    """`site_host_preflight:`, on every host."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look at the host.

        Returns:
            The module's result.

        Raises:
            Refused: The host has problems, or Ansible cannot become root there.
            AnsibleError: The host cannot be reached.
        """
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        project = arguments.pop("project")
        host = variables.get("inventory_hostname", "?")
        try:
            result: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=variables)
        except AnsibleError as error:
            self._refuse_without_root(str(error), host)
            raise
        if result.get("failed"):
            keys = ("module_stderr", "module_stdout", "msg")
            self._refuse_without_root(" ".join(str(result.get(key, "")) for key in keys), host)
            return result
        place = Place(f"host {host}")
        problems = [Problem(fault["what"], place, fault["example"]) for fault in result.pop("problems", [])]
        if project:
            # What preflight of the inventory has fetched, unless nothing may be written beside it.
            wanted = Wanted.from_fact(project, fetched(project, ask=self._task.check_mode).folder)
            problems += too_old(wanted, result["ansible_facts"]["site_host"]["python"], place)
        if problems:
            refuse(f"The host {host}", problems, "Nothing was changed.")
        return result

    def _refuse_without_root(self, output: str, host: str) -> None:
        """Refuse the host if the output says that Ansible could not become root there."""
        problem = explain(output, host, self._get_remote_user())
        if problem:
            refuse(f"The host {host}", [problem], "Nothing was changed.")


def too_old(wanted: Wanted, python: str, place: Place) -> list[Problem]:
    """Refuse a host whose Python the project does not allow, though that of another system is right."""
    project = read_project(wanted)
    if wanted.python or project.allows(python):  # the one that was chosen was asked before
        return []
    what = f"The host has Python {python}, and the project allows {project.python} only (requires-python)."
    return [Problem(what, place, NEWEST)]
