"""A problem of an inventory: what is wrong, in which file and line, and a right example."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Place:
    """Where something is written: a file with a line, or what else a person can find."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        """`inventory/single/hosts.yml:12`, as seen from the current directory."""
        name = self.source
        if Path(name).is_absolute():
            relative = os.path.relpath(name)
            name = name if relative.startswith(os.pardir) else relative
        return f"{name}:{self.line}" if self.line else name


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that must be put right.

    Args:
        what: One or two sentences.
        place: The file to edit.
        example: Lines as they could stand in that file.
    """

    what: str
    place: Place
    example: str

    def __str__(self) -> str:
        """The problem as three labelled paragraphs."""
        example = self.example.replace("\n", "\n             ")
        return f"{self.what}\n    where:   {self.place}\n    example: {example}"


def report(
    problems: Iterable[Problem],
    subject: str = "The inventory",
    comfort: str = "No host was touched.",
) -> str:
    """All problems as one message, each once, in the order of their discovery."""
    distinct = list(dict.fromkeys(problems))
    count = "one problem" if len(distinct) == 1 else f"{len(distinct)} problems"
    body = "\n\n".join(f" {number}. {problem}" for number, problem in enumerate(distinct, start=1))
    return f"{subject} has {count}. {comfort}\n\n{body}\n"


def line_of(path: Path, name: str) -> int | None:
    """The first line of a file that sets the variable `name`, as YAML or as INI; None for none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for number, line in enumerate(lines, start=1):
        words = line.replace("{", " ").replace(",", " ").split()
        for word in words:
            key, separator, _ = word.replace("=", ":", 1).partition(":")
            if separator and key.strip("'\"") == name:
                return number
    return None
