"""The files of an inventory, as a person would have written them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from cli.init.project import Guess

_WIDE = 10_000
# Choices that are a line each below their name; others stand on the line of it.
_IN_LINES = frozenset({"site_settings", "site_environment"})


def hosts_file(name: str, address: str, user: str) -> str:
    """Return hosts.yml for one host that does everything.

    Args:
        name: of the host in the inventory.
        address: of it; `local` for this computer.
        user: who logs in; empty for whom ssh takes.
    """
    reached = (
        ["ansible_connection: local"]
        if address == "local"
        else [f"ansible_host: {_flow(address)}", *([f"ansible_user: {_flow(user)}"] if user else [])]
    )
    groups = ("web", "workers", "beat", "monitor", "broker", "database")
    return "\n".join(
        [
            "---",
            "# One host that does everything. Several hosts: the same groups, other names in them.",
            "# A site without periodic tasks, or without Flower: `beat: {}`, `monitor: {}`.",
            "all:",
            "  hosts:",
            f"    {name}:",
            *(f"      {line}" for line in reached),
            "  children:",
            *(f"    {group}: {{ hosts: {{ {name}: }} }}" for group in groups),
            "",
        ]
    )


def choices_file(guesses: Iterable[Guess], unknown: Iterable[str]) -> str:
    """Return group_vars/all/site.yml.

    Args:
        guesses: the choices, each with its reason.
        unknown: variables that have to be given a value.
    """
    lines = [
        "---",
        "# Written by `celeriac init`, and yours from now on. All choices: roles/*/defaults/main.yml.",
    ]
    names = [*unknown]
    for guess in guesses:
        lines += ["", f"# {guess.why[:1].upper()}{guess.why[1:]}.", *_choice(guess)]
        if guess.name == "site_environment":
            lines += _unknown(names)
            names = []
    if names:
        lines += ["", "# The settings ask for these, and nobody here knows what they mean.", "site_environment:"]
        lines += _unknown(names)
    return "\n".join(lines) + "\n"


def _unknown(names: Iterable[str]) -> list[str]:
    return [f"  {name}: null  # give it a value" for name in names]


def _choice(guess: Guess) -> list[str]:
    if guess.name in _IN_LINES and isinstance(guess.value, Mapping):
        return [f"{guess.name}:", *(f"  {_flow(name)}: {_flow(value)}" for name, value in guess.value.items())]
    return [f"{guess.name}: {_flow(guess.value)}"]


def _flow(value: object) -> str:
    """Return a value on one line, as YAML has it."""
    if isinstance(value, Mapping) and value:
        return f"{{ {', '.join(f'{_flow(name)}: {_flow(each)}' for name, each in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, str) and "{{" in value:
        return json.dumps(value, ensure_ascii=False)
    text: str = yaml.safe_dump(value, default_flow_style=True, width=_WIDE, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write files below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
