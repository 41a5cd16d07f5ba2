"""All checks of an inventory, in the order in which a person would put things right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..origin.origin import FOLDER, Origin
from .bundle import ALLOWED_EXTRA
from .inventory import UNRESOLVED, Inventory, Unreadable
from .names import closed_world, unused_files
from .problem import Place, Problem
from .rules import RULES
from .types import missing, wrong_types


class View:
    """An inventory as the rules see it.

    What cannot be known is None, and what is not set has the place where it belongs.

    Args:
        inventory: The inventory.
        fetched: Where the project is, where that is no folder of the operator's and it was fetched.
    """

    def __init__(self, inventory: Inventory, fetched: Path | None = None) -> None:
        self._inventory = inventory
        self._fetched = fetched

    @property
    def hosts(self) -> Sequence[str]:
        """Every host on which something of the site runs."""
        return self._inventory.hosts

    @property
    def members(self) -> Mapping[str, Sequence[str]]:
        """The hosts of each group that a playbook names."""
        return self._inventory.members

    @property
    def process_groups(self) -> Sequence[str]:
        """The groups whose hosts run the site's processes."""
        return self._inventory.bundle.process_groups

    @property
    def process_names(self) -> Sequence[str]:
        """What the processes of every site are called."""
        return self._inventory.bundle.process_names

    @property
    def group_names(self) -> Sequence[str]:
        """Every group that the inventory has."""
        return self._inventory.group_names

    @property
    def hosts_file(self) -> Place:
        """The file that says which host is in which group."""
        return self._inventory.hosts_file

    @property
    def names(self) -> Sequence[str]:
        """Every choice that the inventory makes."""
        known = set(self._inventory.bundle.settable)
        return sorted({setting.name for setting in self._inventory.settings()} & known)

    def value(self, host: str, name: str) -> Any:
        """The value of a variable on a host; None where it is unknown."""
        try:
            value = self._inventory.value(host, name)
        except Unreadable:
            return None
        return None if value is UNRESOLVED else value

    def fault(self, host: str, name: str) -> str:
        """Why the value of a variable cannot be worked out; empty where it can."""
        try:
            self._inventory.value(host, name)
        except Unreadable as error:
            return str(error)
        return ""

    def source(self, host: str) -> Path | None:
        """The folder of the project on this computer; None where it is not known yet."""
        project = self.value(host, "site_project")
        origin = Origin.from_fact(project) if isinstance(project, dict) else None
        return origin.path if origin and origin.kind == FOLDER else self._fetched

    def is_empty(self, host: str, name: str) -> bool:
        """Whether the inventory sets a variable to nothing."""
        setting = self._inventory.settings_of(host).get(name)
        return setting is not None and setting.value is None

    def place(self, host: str, name: str) -> Place:
        """Where the variable is set, or where it should be."""
        setting = self._inventory.settings_of(host).get(name)
        return setting.place if setting else self._inventory.choices_file

    def place_of_host(self, host: str) -> Place:
        """The line that brings a host into the inventory."""
        return self._inventory.place_of_host(host)


def problems_of(inventory: Inventory, fetched: Path | None = None) -> Iterator[Problem]:
    """Everything that must be put right before a host is touched; see `View`."""
    yield from closed_world(inventory.settings(), inventory.bundle, _allowed_extra(inventory))
    yield from unused_files(inventory)
    yield from wrong_types(inventory)
    yield from missing(inventory)
    view = View(inventory, fetched)
    for rule in RULES:
        yield from rule(view)


def _allowed_extra(inventory: Inventory) -> set[str]:
    view = View(inventory)
    named: set[str] = set()
    for host in inventory.hosts:
        value = view.value(host, ALLOWED_EXTRA)
        named.update(value if isinstance(value, list) else ())
    return named
