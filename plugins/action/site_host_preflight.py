"""Print what the module `site_host_preflight` found on a host as one message, and fail on any.

It also turns the many ways in which one can fail to become root into a sentence that helps.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.celeriac.site.plugins.module_utils.site_systems import NEWEST
from ansible_collections.celeriac.site.plugins.plugin_utils.origin.fetch import fetched
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.access import explain
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.problem import Place, Problem
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.refusal import refuse
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.errors import LockError
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.projects import Wanted, read_project
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.resolve import resolve
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.wheels import Kind, wheels

_OF_WHEELS = ("wheelhouse", "kept", "uv_requirements")


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
        project, wheelhouse = arguments.pop("project"), {name: arguments.pop(name) for name in _OF_WHEELS}
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
            if wheelhouse["wheelhouse"] and not problems:
                problems += self._lacking(
                    wanted, Kind.from_fact(result["ansible_facts"]["site_host"], wanted.python), **wheelhouse
                )
        if problems:
            refuse(f"The host {host}", problems, "Nothing was changed.")
        return result

    def _lacking(self, wanted: Wanted, kind: Kind, wheelhouse: str, kept: str, uv_requirements: str) -> list[Problem]:
        """Refuse a host that does not get its wheels; those that are not in the wheelhouse are fetched."""
        write = not self._task.check_mode
        try:
            with TemporaryDirectory() as scratch:
                into = None if write else Path(scratch) / "site.lock.txt"
                texts = [resolve(wanted, Path(kept), into=into).file.read_text(), uv_requirements]
            found = wheels(Path(wheelhouse), texts, kind, wanted, write=write)
        except LockError as error:
            return [Problem(str(error), Place(wheelhouse), error.remedy)]
        if found.fetched:
            Display().display(f"{found.fetched} wheels were fetched into {wheelhouse}, for {kind}.")
        return []

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
