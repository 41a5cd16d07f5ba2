"""What `bin/celeriac` prints of a run: a line for each step, with its time, and what was changed in it.

A step is what a role does. On a terminal the one at work is shown while it works.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from ansible import constants as C
from ansible.executor.stats import AggregateStats
from ansible.executor.task_result import CallbackTaskResult
from ansible.playbook.play import Play
from ansible.playbook.task import Task
from ansible_collections.celeriac.site.plugins.callback.site import FILES
from ansible_collections.celeriac.site.plugins.callback.site import CallbackModule as Site

DOCUMENTATION = r"""
name: steps
type: stdout
short_description: A line for each step of a run, with its time, and the status of the site
extends_documentation_fragment: [default_callback]
"""

# What helps other roles, or only says what they may be told: no step of its own.
_HELPERS = frozenset({"site", "site_run", "systemd_service"})
_NAMES_SHOWN = 3
_WIDTH = 20
# What takes less, and changes nothing, is not worth a line.
_SHOWN_SECONDS = 1.0
_LEAST_SECONDS = 0.1


class CallbackModule(Site):
    """The callback `celeriac.site.site` without a line for each task."""

    CALLBACK_NAME = "steps"

    def __init__(self) -> None:
        super().__init__()
        self._step = ""
        self._began = self._first = time.monotonic()
        self._changed: dict[str, None] = {}
        self._is_live = sys.stdout.isatty()

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Say nothing of which file it is."""

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Learn from the command line what is to be printed."""
        self.learn(play)

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        """Begin with a step, where the task is of another one."""
        role = task._role.get_name().rpartition(".")[2] if task._role else task.get_name()
        if role in (self._step, *_HELPERS):
            return
        self._end()
        self._step, self._began = role, time.monotonic()
        if self._is_live and not self.is_json:
            sys.stdout.write(f"  {role} …")
            sys.stdout.flush()

    def v2_playbook_on_handler_task_start(self, task: Task) -> None:
        """Take it for a task of its role."""
        self.v2_playbook_on_task_start(task, False)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Say nothing of it."""

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Note what was changed; show what `celeriac.site.site` shows behind a step."""
        if result.result.get("changed"):
            seconds = result.result.get("seconds")
            steps = ", ".join(
                f"{name} {value:.1f}" for name, value in (seconds or {}).items() if value >= _LEAST_SECONDS
            )
            self._changed[steps or result.task.get_name().rpartition(" : ")[2].rpartition(" | ")[2]] = None
        if result.task.action != FILES and self.has_more(result):
            self._end()
            self.show(result)

    def v2_runner_item_on_ok(self, result: CallbackTaskResult) -> None:
        """Say nothing of it: the task says whether anything was changed."""

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """End the step, and say why, in the words of the task; where it has few, as Ansible would."""
        if ignore_errors:
            return
        message = str(result.result.get("msg", ""))
        if "results" in result.result or not message:
            super().v2_runner_on_failed(result, ignore_errors)
            self._end("failed")
        else:
            self._fail(result, message)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """End the step, and say why."""
        self._fail(result, str(result.result.get("msg", "")))

    def _fail(self, result: CallbackTaskResult, message: str) -> None:
        self.note_failure(result)
        self._end("failed")
        self._display.display(f"\n{result.host.get_name()}: {message}\n", color=C.COLOR_ERROR, stderr=True)

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Say in a line how it went."""
        self._end()
        bad = sorted({*stats.failures, *stats.dark})
        how = f"Failed on {', '.join(bad)}" if bad else "Done"
        self._display.display(f"{how} after {time.monotonic() - self._first:.1f} s.")
        self.print_document()

    def _end(self, how: str = "") -> None:
        """Print the line of the step at work."""
        if self._step and not self.is_json:
            if self._is_live:
                sys.stdout.write("\r\033[K")
                sys.stdout.flush()
            names = [*self._changed]
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            what = how or "; ".join(names[:_NAMES_SHOWN]) + more
            seconds = time.monotonic() - self._began
            if what or seconds >= _SHOWN_SECONDS:
                self._display.display(f"  {self._step:<{_WIDTH}} {seconds:6.1f} s  {what}".rstrip())
        self._step, self._changed = "", {}
