"""What the inventory puts into the environment is in every process, sign by sign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from stack import odd
from stack.machine import PROCESSES, Machine

pytestmark = [pytest.mark.once, pytest.mark.debian(13)]


@pytest.fixture(scope="module")
def chosen(choices: dict[str, object]) -> Mapping[str, str]:
    """What the inventory of the scenario chooses."""
    found = choices["site_environment"]
    assert isinstance(found, dict)
    assert len(found) > odd.COUNT
    return found


def damaged(chosen: Mapping[str, str | None], found: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """Return what should be and what is where these differ, and the seed that gives the same values again."""
    wrong = {name: (value, found.get(name)) for name, value in chosen.items() if found.get(name) != value}
    return {odd.SEED: (chosen[odd.SEED], None), **wrong} if wrong else {}


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_has_each_value_as_it_was_chosen(
    machine: Machine, chosen: Mapping[str, str], choices: dict[str, Any], process: str
) -> None:
    """Those of all processes, and over them its own."""
    given = choices[f"{process.replace('-', '_')}_environment"]
    own = {name: value for name, value in given.items() if "{{" not in str(value)}
    project = own.get("DJANGO_SETTINGS_MODULE", "TimeOut.settings")
    settings = {"DJANGO_SETTINGS_MODULE": "celeriac.settings", "CELERIAC_SETTINGS_MODULE": project}
    assert damaged({"OWN": None, **chosen, **own, **settings}, machine.environment(process)) == {}


def test_a_command_of_the_operator_has_each_value_as_it_was_chosen(machine: Machine, chosen: Mapping[str, str]) -> None:
    assert damaged({"OWN": None, **chosen}, machine.environment_of_a_command()) == {}
