"""Hosts that take a release together: one after the other they begin, and then it serves on all of them or on none.

Ansible runs a task with `throttle: 1` on one host at a time, and on all of them, whatever became of the ones before. So
the first task never fails: what became of each host is noted in the folder of the run, which all its processes have,
and the second task, on all hosts at once, goes on or takes back by these notes.
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
    """Who has had their turn in a run, and what became of it.

    Args:
        what: that is done in turn, a word; each has its own.
        folder: of the run, that of Ansible itself where nothing is said.
    """

    def __init__(self, what: str, folder: Path | None = None) -> None:
        self._file = (folder or Path(C.DEFAULT_LOCAL_TMP)) / f"celeriac-{what}.json"

    def take(self, host: str, begin: Callable[[], Result]) -> Result:
        """Begin on a host, unless that has failed on one before.

        Args:
            host: whose turn it is.
            begin: does it; a result that has failed says so, and a host that is gone is an error.

        Returns:
            The result; one that has failed is told by `end`, and by none before.
        """
        before = self._read()
        if not all(note["passed"] for note in before.values()):
            return {"changed": False}
        self._write({**before, host: {"passed": False, "said": "The run was ended in the middle."}})
        try:
            result = begin()
        except Exception as error:  # whatever became of it, the hosts before are to be as they were
            result = {"failed": True, "msg": str(error)}
        passed, said = not result.get("failed"), str(result.get("msg", ""))
        kept = {"changed": bool(result.get("changed")), "begun": result.get("begun", {})}
        self._write({**before, host: {"passed": passed, "said": said, **kept}})
        return result if passed else {"changed": False, "msg": said}

    def end(
        self,
        host: str,
        hosts: Sequence[str],
        go_on: Callable[[Mapping[str, Any]], Result],
        undo: Callable[[str], Result],
    ) -> Result:
        """Go on with what was begun on a host where it has passed on all of them, else undo it.

        Args:
            host: one of them.
            hosts: all of them, in their order.
            go_on: does the rest, where something was changed; it is given what the result of that says as `begun`.
            undo: takes back what it finds; it is given why.

        Returns:
            The result; one that was undone has failed, and its message says why.

        Raises:
            AnsibleActionFail: nothing was begun here, for it has failed on a host before.
        """
        notes = self._read()
        bad = next((name for name in hosts if not notes.get(name, {}).get("passed")), None)
        mine = notes.get(host)
        if bad is None and mine:
            return go_on(mine["begun"]) if mine["changed"] else {"changed": False}
        if mine is None:
            raise AnsibleActionFail(
                f"Not begun: {bad} comes before {host}, and the release has not passed there. What serves here "
                "serves on."
            )
        if host == bad:
            # Undone by itself, but for one that was gone, or killed, in the middle.
            all_said = [mine["said"], undo("It was ended in the middle.").get("msg"), _told(host, hosts, notes)]
            return {"failed": True, "msg": "\n".join(filter(None, all_said))}
        result = undo(f"It has not passed on {bad}.") if mine["changed"] else {}
        said = result.get("msg") or f"The release served here before, and serves on: it has not passed on {bad}."
        return {**result, "failed": True, "msg": said}

    def _read(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = json.loads(self._file.read_text()) if self._file.exists() else {}
        return found

    def _write(self, notes: Mapping[str, Mapping[str, Any]]) -> None:
        self._file.write_text(json.dumps(notes))


def _told(host: str, hosts: Sequence[str], notes: Mapping[str, Any]) -> str:
    """Return what becomes of the other hosts when it did not pass on one."""
    others = [name for name in hosts if name != host]
    if not others:
        return ""
    begun = ", ".join(name for name in others if name in notes)
    left = ", ".join(name for name in others if name not in notes)
    return f"Undone on: {begun or 'none'}; not begun: {left or 'none'}."
