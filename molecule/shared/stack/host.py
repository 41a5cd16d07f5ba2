"""A host that is none: what `systemctl` would show of it, for tests of the engine."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any


class Host:
    """A host as `systemctl` shows it.

    Attributes:
        states: of each unit that was ever started.
        since: when each changed it, as a number that grows.
        calls: what was done to units, in this order.
        busy: units that do not end at once when they are told to.
        broken: units that do not start.
    """

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.since: dict[str, int] = {}
        self._clock = count()
        self.calls: list[tuple[str, ...]] = []
        self.busy: set[str] = set()
        self.broken: set[str] = set()

    def __call__(self, command: list[str]) -> tuple[int, str, str]:
        """Run systemctl; other commands say nothing."""
        verb, words = command[1], [word for word in command[2:] if not word.startswith("--")]
        if command[0] != "systemctl":
            return 0, "", ""
        if verb == "show":
            [wanted] = [word.partition("=")[2].split(",") for word in command if word.startswith("--property=")]
            return 0, "\n\n".join(self._shown(unit, wanted) for unit in words), ""
        if verb in ("start", "restart", "stop", "kill"):
            self.calls.append((verb, *words))
        for unit in words:
            self.since[unit] = next(self._clock)
            if verb in ("start", "restart"):
                self.states[unit] = "failed" if unit in self.broken else "active"
            elif verb == "stop":
                self.states[unit] = "deactivating" if unit in self.busy else "inactive"
        return int(verb == "start" and not self.broken.isdisjoint(words)), "", ""

    def _shown(self, unit: str, wanted: list[str]) -> str:
        since = self.since.get(unit, 0)
        known = {
            "ActiveState": self.states.get(unit, "inactive"),
            "ExecMainStartTimestamp": "Fri 2100-01-01 00:00:00.000000 UTC",
            "StateChangeTimestamp": f"Fri 2100-01-01 00:{since // 60:02}:{since % 60:02}.000000 UTC",
        }
        return "\n".join(f"{name}={known.get(name, '')}" for name in wanted)

    def running(self) -> set[str]:
        """Return the units that run."""
        return {unit for unit, state in self.states.items() if state == "active"}


class Asked:
    """The checks, all of which pass.

    Attributes:
        names: which were asked, each with the state of the units then.
        units: what they were told to ask.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.names: list[tuple[str, dict[str, str]]] = []
        self.units: dict[Any, list[str]] = {}

    def __call__(self, *arguments: Any) -> Asked:
        """Be made, as `Checks` is."""
        self.units = arguments[-1]
        return self

    def __getattr__(self, name: str) -> Callable[[], str]:
        """Return a check of any name."""

        def check() -> str:
            self.names.append((name, dict(self.host.states)))
            return ""

        return check
