"""Hooks: an operator's own commands, each at a point of a release (`site_release_hooks`).

A point is a step of the transaction; `site_transaction.py` says where each one stands. This file knows how hooks
are written, and nothing of hosts: preflight reads it, too.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

POINTS = ("before_migrate", "before_switch", "after_switch", "after_record")
KEYS = ("command", "timeout_seconds")
LONGEST_SECONDS = 24 * 3600
# A word that is shown: no option, no address, no assignment, for these may hold a secret.
PLAIN = re.compile(r"[\w./][\w./-]*")
WORDS_SHOWN = 3


@dataclass(frozen=True)
class Hook:
    """A command at a point of a release.

    Attributes:
        command: its words; no shell reads them.
        timeout_seconds: how long it may take.
    """

    command: tuple[str, ...]
    timeout_seconds: int

    @property
    def name(self) -> str:
        """What it is called where it is shown."""
        return shown(self.command)


def shown(words: Iterable[str]) -> str:
    """Return what a command is called: its first words, without what may be secret."""
    plain = itertools.takewhile(PLAIN.fullmatch, words)
    return " ".join(itertools.islice(plain, WORDS_SHOWN)) or "the command"


def read_hooks(given: Mapping[str, Any], timeout_seconds: int) -> dict[str, tuple[Hook, ...]]:
    """Return the hooks of each point.

    Args:
        given: `site_release_hooks`, in which `faults_of` found none.
        timeout_seconds: how long a hook may take that does not say it.
    """
    entries = {point: [_as_mapping(entry) for entry in given.get(point, ())] for point in POINTS}
    return {
        point: tuple(
            Hook(tuple(shlex.split(entry["command"])), entry.get("timeout_seconds", timeout_seconds)) for entry in found
        )
        for point, found in entries.items()
    }


def faults_of(given: Mapping[Any, Any]) -> Iterator[str]:
    """Yield what is wrong with hooks, each as the rest of a sentence that begins with their name."""
    for point, entries in given.items():
        if point not in POINTS:
            yield f"has `{point}`, which is no point of a release: these are {', '.join(POINTS)}"
        elif not isinstance(entries, list):
            yield f"has something at `{point}` that is no list"
        else:
            for number, entry in enumerate(entries, start=1):
                if fault := _fault_of(entry):
                    yield f"has at `{point}`, number {number}, {fault}"


def _as_mapping(entry: Any) -> Any:
    return {"command": entry} if isinstance(entry, str) else entry


def _fault_of(entry: Any) -> str:
    """Say what is wrong with one entry, without its words: they may be secret. Empty for nothing."""
    found = _as_mapping(entry)
    if not isinstance(found, Mapping):
        return "what is neither a text nor a set of `command` and `timeout_seconds`"
    if unknown := [str(key) for key in found if key not in KEYS]:
        return f"`{unknown[0]}`, which no hook has: there are {' and '.join(KEYS)}"
    return _fault_of_command(found.get("command")) or _fault_of_timeout(found.get("timeout_seconds", 1))


def _fault_of_command(command: Any) -> str:
    if not isinstance(command, str):
        return "a `command` that is no text, or none"
    try:
        words = shlex.split(command)
    except ValueError:
        return "a command with a quote or a backslash that nothing follows or closes"
    if not words or not words[0]:
        return "an empty command"
    if "\0" in command:
        return "a command with a NUL, which no program can be given"
    return ""


def _fault_of_timeout(seconds: Any) -> str:
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 1 <= seconds <= LONGEST_SECONDS:
        return f"a `timeout_seconds` that is no whole number from 1 to {LONGEST_SECONDS}"
    return ""
