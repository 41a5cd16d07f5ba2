"""What a run prints: Ansible's own default, a status as people or machines want it, and what a deploy has to say.

With `-e format=json` the statuses of all hosts are one JSON document, and standard output holds nothing else.
"""

from __future__ import annotations

import json
from typing import Any

from ansible.executor.stats import AggregateStats
from ansible.executor.task_result import CallbackTaskResult
from ansible.playbook.play import Play
from ansible.plugins.callback.default import CallbackModule as Default

DOCUMENTATION = r"""
name: site
type: stdout
short_description: Ansible's default output, and the status of the site
extends_documentation_fragment: [default_callback]
"""


# What is shown of the results of some tasks: the name of a list, and what stands before each of its lines.
FILES = "celeriac.site.files"
SHOWN = {
    FILES: ("changed_files", ""),
    "celeriac.site.site_release": ("hooks", "hook "),
    "celeriac.site.site_rollback": ("hooks", "hook "),
    "celeriac.site.site_health": ("tasks", ""),
    "celeriac.site.site_maintenance": ("lines", ""),
    "celeriac.site.site_backup": ("backups", ""),
    "celeriac.site.site_restore": ("restored", ""),
}


class CallbackModule(Default):
    """The default callback, which knows results of `site_status`."""

    CALLBACK_NAME = "site"

    def __init__(self) -> None:
        super().__init__()
        self._display: Any
        self._statuses: dict[str, Any] = {}
        self.is_json = False

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Learn from the command line what is to be printed."""
        self.learn(play)
        super().v2_playbook_on_play_start(play)

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Show a status instead of its bare result, the hooks of a release, and the guarantees of its tasks."""
        if not _is_status(result):
            super().v2_runner_on_ok(result)
        self.show(result)

    def learn(self, play: Play) -> None:
        """Learn from the command line whether one document is wanted, and nothing else."""
        variables = play.get_variable_manager().extra_vars
        if variables.get("format") == "json" and not self.is_json:
            self.is_json = True
            self._display = _Silence(self._display)

    def has_more(self, result: CallbackTaskResult) -> bool:
        """Say whether a result has lines for people."""
        name, _ = SHOWN.get(result.task.action, ("", ""))
        return _is_status(result) or bool(result.result.get(name))

    def show(self, result: CallbackTaskResult) -> None:
        """Print the lines that a result has for people."""
        if not _is_status(result):
            name, before = SHOWN.get(result.task.action, ("", ""))
            for line in result.result.get(name, ()):
                self._display.display(f"  {before}{line}")
            return
        status = result.result["status"]
        self._statuses[result.host.get_name()] = status
        self._display.display(f"{result.host.get_name()}:")
        for line in result.result["lines"]:
            self._display.display(f"  {line}")

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Keep a host in the document that could not answer."""
        self.note_failure(result)
        super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """Keep a host in the document that is not reachable."""
        self.note_failure(result)
        super().v2_runner_on_unreachable(result)

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Print the document."""
        super().v2_playbook_on_stats(stats)
        self.print_document()

    def note_failure(self, result: CallbackTaskResult) -> None:
        """Note for the document why a host has no status."""
        self._statuses[result.host.get_name()] = {"error": result.result.get("msg", "")}

    def print_document(self) -> None:
        """Print the document, where it is wanted."""
        if self.is_json:
            print(json.dumps(self._statuses, indent=2, sort_keys=True))


def _is_status(result: CallbackTaskResult) -> bool:
    return result.task.action == "celeriac.site.site_status" and isinstance(result.result.get("status"), dict)


class _Silence:
    """A display that prints nothing; everything else it passes on."""

    def __init__(self, display: Any) -> None:
        self._display = display

    def __getattr__(self, name: str) -> Any:
        return getattr(self._display, name)

    def display(self, *_: Any, **__: Any) -> None:
        """Print nothing."""

    def banner(self, *_: Any, **__: Any) -> None:
        """Print nothing."""
