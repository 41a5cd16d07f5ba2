"""What our modules ask systemd and tell it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from ansible_collections.celeriac.site.plugins.module_utils.site_errors import SystemdError
from ansible_collections.celeriac.site.plugins.module_utils.site_secrets import concealed

# (rc, stdout, stderr) = run(argv); AnsibleModule.run_command is one.
Run = Callable[[list[str]], tuple[int, str, str]]

UNIT_DIRECTORY = Path("/etc/systemd/system")


class Systemd:
    """systemctl, with errors that carry the unit's own last words."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def call(self, *arguments: str) -> str:
        """Run systemctl and return what it printed.

        Raises:
            SystemdError: systemctl exited with an error.
        """
        code, output, error = self._run(["systemctl", *arguments])
        if code != 0:
            raise SystemdError(f"systemctl {' '.join(arguments)}: {(error or output).strip()}")
        return output

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        """Return properties of a unit; times are in UTC, with microseconds (systemctl(1))."""
        shown = self.call("show", "--timestamp=us+utc", f"--property={','.join(names)}", "--", unit)
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def states(self, units: list[str]) -> dict[str, str]:
        """Return the ActiveState of units: active, activating, deactivating, inactive, failed."""
        if not units:
            return {}
        blocks = self.call("show", "--property=ActiveState", "--", *units).strip().split("\n\n")
        return {unit: block.partition("=")[2] for unit, block in zip(units, blocks, strict=True)}

    def state(self, unit: str) -> str:
        """Return the ActiveState of one unit."""
        return self.states([unit])[unit]

    def start(self, *units: str, verb: str = "start") -> None:
        """Start (or restart) units and wait until all of them are ready.

        Raises:
            SystemdError: one did not become ready; the message ends with its journal.
        """
        try:
            self.call(verb, *units)
        except SystemdError as error:
            failed = [unit for unit in units if self.state(unit) != "active"]
            words = [f"{unit} does not start.\n{self.last_words(unit)}" for unit in failed]
            raise SystemdError("\n".join([*words, str(error)])) from error

    def renice(self, unit: str, level: int) -> None:
        """Let the processes of a unit run with a nice level, each thread of them."""
        group = self.properties(unit, "ControlGroup").get("ControlGroup", "")
        threads = Path(f"/sys/fs/cgroup{group}/cgroup.threads")
        seen: set[int] = set()
        while group and threads.exists():
            new = {int(line) for line in threads.read_text().split()} - seen
            if not new:
                break  # what was forked meanwhile has the level of a parent that was changed before
            for thread in new:
                with contextlib.suppress(ProcessLookupError):
                    os.setpriority(os.PRIO_PROCESS, thread, level)
            seen |= new

    def last_words(self, unit: str, lines: int = 40) -> str:
        """Return the end of the unit's journal, without the secrets of its environment."""
        output = self._journal(lines, f"--unit={unit}")
        # A line each: `EnvironmentFiles=/etc/site/site.environment (ignore_errors=no)`.
        shown = self.call("show", "--property=EnvironmentFiles", "--", unit)
        files = re.findall(r"(?m)^EnvironmentFiles=(.+) \(ignore_errors=\w+\)$", shown)
        return concealed(output, map(Path, files))

    def said_by(self, identifier: str) -> str:
        """Return the last line that the processes of an identifier (SyslogIdentifier=) have said."""
        return self._journal(1, f"--identifier={identifier}")

    def _journal(self, lines: int, chosen: str) -> str:
        # Without it the journal may not have yet what a process said while it ended.
        self._run(["journalctl", "--sync"])
        _, output, _ = self._run(["journalctl", "--no-pager", "--output=cat", f"--lines={lines}", chosen])
        return output.strip()

    def started_at(self, unit: str, *, reloads: bool) -> datetime | None:
        """Return when a unit last read its configuration, None while it is not active.

        Args:
            unit: name of a service, or of a unit without a process, such as a socket.
            reloads: its reload reads all of the configuration again. systemd notes the end of a
                reload as a change of state.
        """
        names = ["ExecMainStartTimestamp", "ActiveEnterTimestamp", "StateChangeTimestamp"]
        shown = self.properties(unit, "ActiveState", *names)
        if shown.get("ActiveState") != "active":
            return None
        process, active, state_change = (parse_timestamp(shown.get(name, "")) for name in names)
        return state_change if reloads else process or active

    def needs_daemon_reload(self, unit: str) -> bool:
        """Say whether the unit's file is younger than what systemd knows of it."""
        return self.properties(unit, "NeedDaemonReload").get("NeedDaemonReload") == "yes"


def parse_timestamp(text: str) -> datetime | None:
    """Return the moment that systemd prints as `text`, None for what is none."""
    for form in ("%a %Y-%m-%d %H:%M:%S.%f UTC", "%a %Y-%m-%d %H:%M:%S UTC"):  # the second for a timer's next one
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, form).replace(tzinfo=UTC)
    return None


def iso_timestamp(text: str) -> str | None:
    """Return the moment that systemd prints as `text` in UTC, ISO 8601; None for what is none."""
    moment = parse_timestamp(text)
    return f"{moment:%FT%TZ}" if moment else None


def newest_change(paths: Iterable[str | Path]) -> datetime:
    """Return when the last of these files changed. Files that do not exist do not count."""
    times = [Path(path).stat().st_mtime for path in paths if Path(path).exists()]
    return datetime.fromtimestamp(max(times, default=0), tz=UTC)
