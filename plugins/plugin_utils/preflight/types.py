"""Types, choices and what must be given, by the roles' own argument specs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .bundle import Option
from .inventory import COMMAND_LINE, UNRESOLVED, Inventory, Setting, Unreadable
from .names import as_yaml, example_of
from .problem import Problem

_WORDS = {
    "bool": "true or false",
    "dict": "a set of `name: value` lines",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "path": "a path",
    "str": "a text",
}


def wrong_types(inventory: Inventory) -> Iterator[Problem]:
    """Refuse values that are not of the type, or not among the choices, of their option."""
    for host in inventory.hosts:
        for setting in inventory.settings_of(host).values():
            option = inventory.bundle.options.get(setting.name)
            if option and option.settable and setting.name not in inventory.bundle.derived:
                problem = _check(inventory, host, setting, option)
                if problem:
                    yield problem


def missing(inventory: Inventory) -> Iterator[Problem]:
    """Refuse an inventory that leaves out what a role of one of its hosts cannot do without."""
    for host in inventory.hosts:
        groups = inventory.groups_of(host)
        for option in inventory.bundle.options.values():
            wanted = option.spec.get("required") and option.settable and inventory.bundle.runs_on(option.role, groups)
            if wanted and not inventory.defined(host, option.name):
                yield Problem(
                    f"`{option.name}` is not set, and nothing can stand in for it. {_description(option)}",
                    inventory.choices_file,
                    example_of(option),
                )


def _check(inventory: Inventory, host: str, setting: Setting, option: Option) -> Problem | None:
    try:
        value = inventory.value(host, setting.name)
    except Unreadable as error:
        return Problem(
            f"The value of `{setting.name}` cannot be worked out: {error}",
            setting.place,
            example_of(option),
        )
    fault = None if value is UNRESOLVED else fault_of(value, option)
    if not fault:
        return None
    on_command_line = setting.place == COMMAND_LINE
    return Problem(
        fault,
        setting.place,
        _command_line(value, option) if on_command_line else example_of(option),
    )


def _command_line(value: Any, option: Option) -> str:
    """The option as JSON behind `-e`, with the value that was meant where that is plain."""
    meant = yaml.safe_load(str(value)) if isinstance(value, str) and not option.secret else None
    if meant is None or fault_of(meant, option):
        meant = yaml.safe_load(example_of(option))[option.name]
    return f"-e '{json.dumps({option.name: meant})}'"


def fault_of(value: Any, option: Option) -> str | None:
    """What is wrong with a value, as a sentence; None when nothing is."""
    kind = option.spec.get("type", "str")
    shown = "the value given" if option.secret or isinstance(value, list | dict) else f"`{as_yaml(value)}`"
    if value is None:
        return f"`{option.name}` is set to nothing; it must be {_WORDS.get(kind, kind)}."
    if isinstance(value, str) and kind in ("int", "float", "bool"):
        hint = "so is all of `-e name=value`; `-e` takes JSON too"
        return f"`{option.name}` must be {_WORDS[kind]}; {shown} is a text ({hint})."
    if _strange(value, kind):
        return f"`{option.name}` must be {_WORDS.get(kind, kind)}; {shown} is {_kind_of(value)}."
    choices = option.spec.get("choices")
    if choices and not isinstance(value, list) and value not in choices:
        listed = ", ".join(map(as_yaml, choices))
        return f"`{option.name}` must be one of {listed}; {shown} is none of them."
    errors = _errors(value, option)
    if not errors:
        return None
    # Ansible's own words repeat the value, which may be a secret; they are needed only where a part
    # of it is wrong.
    if not option.secret and isinstance(value, list | dict):
        return f"`{option.name}` is wrong: {'; '.join(errors)}."
    return f"`{option.name}` must be {_WORDS.get(kind, kind)}; {shown} is not."


def _errors(value: Any, option: Option) -> list[str]:
    spec = {key: entry for key, entry in option.spec.items() if key not in ("required", "default", "description")}
    messages: list[str] = ArgumentSpecValidator({option.name: spec}).validate({option.name: value}).error_messages
    return messages


def _strange(value: Any, kind: str) -> bool:
    """Whether a value is of another kind than it should be, though argument specs let it pass.

    Ansible checks what the value could be turned into, and then hands the role the value as it was:
    the text `60` where a role adds seconds to seconds.
    """
    if kind in ("str", "path"):
        return isinstance(value, list | dict | bool)
    if kind in ("int", "float"):
        # `.inf` is a float too, and would end Ansible's own check with a traceback.
        return isinstance(value, bool | str) or (kind == "int" and isinstance(value, float))
    if kind == "bool":
        return not isinstance(value, bool)
    if kind == "list":
        return isinstance(value, str | dict)
    return kind == "dict" and isinstance(value, str | list)


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "a switch (so are words such as yes and no, unless they stand in quotes)"
    kind = next((kind for kind in (str, int, float, list, dict) if isinstance(value, kind)), type(value))
    return _WORDS.get(kind.__name__, kind.__name__)


def _description(option: Option) -> str:
    text = option.spec.get("description", "")
    return " ".join(text) if isinstance(text, list) else str(text)
