"""Say in which file and line of group_vars or host_vars a YAML error is.

ansible-core 2.19 prints the error's text and drops the file. No task of preflight could say it
better: the error comes before the first one. Ansible's `host_group_vars` still reads the files.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.vars import host_group_vars
from yaml import MarkedYAMLError

_PLUGINS = Path(__file__).resolve().parents[1]
# Ansible finds `module_utils` only for modules: what a plugin imports, Python itself must find.
if str(_PLUGINS) not in sys.path:
    sys.path.append(str(_PLUGINS))

from preflight.problem import Place, Problem, report  # noqa: E402

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


class VarsModule(host_group_vars.VarsModule):
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
