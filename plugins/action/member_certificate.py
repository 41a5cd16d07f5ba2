"""Sign for a host what it asks with, by an authority that never leaves this computer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.celeriac.site.plugins.plugin_utils.authority import Authority, AuthorityError, kept


class ActionModule(ActionBase):
    """`member_certificate:`, on each host of a site that has several."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Bring the host its certificate, where it has none that goes on to be right.

        Returns:
            The module's result.

        Raises:
            AnsibleActionFail: there is no authority, or nothing that it could sign.
        """
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        given, file = arguments.pop("authority"), arguments.pop("authority_file")
        try:
            # Under --check nothing is written here either.
            authority = Authority(given) if given else kept(Path(file), write=not self._task.check_mode)
            arguments["authority"] = authority.certificate
            result = self._module(arguments, task_vars)
            if not result.get("request"):
                return result
            arguments["certificate"] = authority.signed(result["request"], arguments["names"])
        except AuthorityError as error:
            where = "vault_site_member_authority" if given else file
            raise AnsibleActionFail(
                f"The authority of the site's hosts, {where}, cannot be used: {error}. "
                "Without it a new one is made, and each host gets a certificate of that in the same run."
            ) from error
        return self._module(arguments, task_vars)

    def _module(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(
            module_name="celeriac.site.member_certificate", module_args=dict(arguments), task_vars=task_vars
        )
        return result
