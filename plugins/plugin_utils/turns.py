"""Hosts that take a release one after the other: where it does not pass on one, the next are not begun.

Ansible runs a task with `throttle: 1` on one host at a time, and on all of them, whatever became of the ones before.
What did become of them is noted in the folder of the run, which all its processes have.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail

Result = dict[str, Any]


class Turns:
    """Who has had their turn in a run.

    Args:
        what: that is done in turn, a word; each has its own.
        folder: of the run, that of Ansible itself where nothing is said.
    """

    def __init__(self, what: str, folder: Path | None = None) -> None:
        self._file = (folder or Path(C.DEFAULT_LOCAL_TMP)) / f"celeriac-{what}.json"

    def take(self, host: str, hosts: Sequence[str], do: Callable[[], Result]) -> Result:
        """Do it on a host, unless it has failed on one before.

        Args:
            host: whose turn it is.
            hosts: all of them, in their order.
            do: does it; a result that has failed says so.

        Returns:
            The result; of one that has failed the message says which hosts have the release, and which do not.

        Raises:
            AnsibleActionFail: it has failed on a host before, and nothing was begun here.
        """
        before = self._read()
        if failed := [name for name, passed in before.items() if not passed]:
            raise AnsibleActionFail(
                f"Not begun: {failed[0]} comes before {host}, and the release has not passed there. What serves here "
                "serves on."
            )
        if len(hosts) == 1:
            return do()
        self._write({**before, host: False})  # an error, or a host that is gone, is a failure as well
        result = do()
        if not result.get("failed"):
            self._write({**before, host: True})
            return result
        return {**result, "msg": f"{result.get('msg', '')}\n{_told(host, hosts, before)}"}

    def _read(self) -> dict[str, bool]:
        found: dict[str, bool] = json.loads(self._file.read_text()) if self._file.exists() else {}
        return found

    def _write(self, passed: Mapping[str, bool]) -> None:
        self._file.write_text(json.dumps(passed))


def _told(host: str, hosts: Sequence[str], before: Mapping[str, bool]) -> str:
    """Return which hosts have the release, and which do not, when it did not pass on one."""
    others = [name for name in hosts if name not in before and name != host]
    has = f"{', '.join(before)} {'has' if len(before) == 1 else 'have'} the release" if before else "No host has it"
    text = f"{has}; not begun: {', '.join(others) or 'none'}."
    if before:
        text += f" Ship a repair, or go back: `playbooks/rollback.yml --limit {','.join(before)}`."
    return text
