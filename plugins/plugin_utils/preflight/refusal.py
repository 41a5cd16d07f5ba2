"""How a preflight task says no: one message for a person, and a failed task for Ansible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from ansible import constants
from ansible.errors import AnsibleAction
from ansible.utils.display import Display

from .problem import Problem, report


class Refused(AnsibleAction):
    """The message was printed; the task fails with a short summary of it."""

    @property
    def omit_exception_key(self) -> bool:
        """Keep Ansible from repeating it with an excerpt of a playbook nobody has to edit."""
        return True


def refuse(subject: str, problems: Sequence[Problem], comfort: str) -> NoReturn:
    """Print the problems of `subject` as one message and fail the task.

    Args:
        subject: What has the problems, to begin a sentence with.
        problems: At least one.
        comfort: What did not happen because of them, as a sentence.

    Raises:
        Refused: Always.
    """
    Display().display(report(problems, subject, comfort), color=constants.COLOR_ERROR)
    summary = f"{subject} is refused; see above. Problems: {len(problems)}. {comfort}"
    raise Refused(summary, result={"failed": True, "changed": False, "msg": summary})
