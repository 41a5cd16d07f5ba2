"""Say in which file and line of group_vars or host_vars a YAML error is.

ansible-core 2.19 prints the error's text and drops the file. No task of preflight could say it
better: the error comes before the first one. Ansible's `host_group_vars` still reads the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.vars import BaseVarsPlugin, host_group_vars
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.problem import Place, Problem, report
from yaml import MarkedYAMLError

DOCUMENTATION = host_group_vars.DOCUMENTATION.replace("host_group_vars", "site_yaml", 1)

# What goes wrong most often: a tab, a line that is indented too far, a colon in a text.
EXAMPLE = 'two spaces a level, no tabs, and quotes: site_admin_username: "with a colon: quoted"'


def problem_of(error: BaseException, file: str) -> Problem:
    """The failure to read a file, with the line from the YAML parser's own error."""
    mark = None
    cause: BaseException | None = error
    while cause and not mark:
        mark = cause.problem_mark if isinstance(cause, MarkedYAMLError) else None
        cause = cause.__cause__ or cause.__context__
    if "vault" in str(error).lower() and not mark:
        return Problem(str(error), Place(file), "ansible-playbook --ask-vault-pass …")
    return Problem(str(error), Place(file, mark.line + 1 if mark else None), EXAMPLE)


class _Files(host_group_vars.VarsModule):
    """Finds the files as `host_group_vars` does, and gives no variables."""

    def load_found_files(self, loader: DataLoader, data: dict[str, Any], found_files: Sequence[str]) -> dict[str, Any]:
        """Read the files.

        Raises:
            AnsibleParserError: A file is not YAML, or holds something else than variables.
        """
        for file in found_files:
            try:
                # What is read stays in the loader's cache: `host_group_vars` finds it there.
                content = loader.load_from_file(file, cache="all", unsafe=True, trusted_as_template=True)
            except AnsibleError as error:
                raise AnsibleParserError(report([problem_of(error, file)])) from None
            if content and not isinstance(content, dict):
                problem = Problem(
                    "The file must hold variables, a `name: value` on each line.",
                    Place(str(file)),
                    "site_domain: www.mysite.org",
                )
                raise AnsibleParserError(report([problem]))
        return data


class VarsModule(BaseVarsPlugin):
    """What ansible.cfg enables; no subclass, because Ansible warns of an attribute that `host_group_vars` has."""

    is_stateless = True

    def __init__(self) -> None:
        super().__init__()
        self._files = _Files()

    def get_vars(self, loader: DataLoader, path: str, entities: Any, cache: bool = True) -> dict[str, Any]:
        """Read the files of these groups or hosts.

        Raises:
            AnsibleParserError: A file is not YAML, or holds something else than variables.
        """
        variables: dict[str, Any] = self._files.get_vars(loader, path, entities, cache)
        return variables
