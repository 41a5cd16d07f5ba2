"""What the inventory and `-e` really set, for which host, and in which file and line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.inventory.group import Group
from ansible.inventory.helpers import sort_groups
from ansible.inventory.host import Host
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from ansible.vars.plugins import get_vars_from_inventory_sources, get_vars_from_path

from .bundle import Bundle
from .problem import Place, line_of

try:
    # Where a value came from is a private matter of ansible-core 2.19; without it the file is
    # searched for the name.
    from ansible._internal._datatag._tags import Origin
except ImportError:
    Origin = None

# The groups of hosts with what the processes need. Theirs are in the list of processes.
DATASTORES = ("broker", "database")
# What Ansible itself puts among a host's variables.
_AUTOMATIC = frozenset(
    {
        "inventory_file",
        "inventory_dir",
        "inventory_hostname",
        "inventory_hostname_short",
        "group_names",
    }
)
# How the name of a file of variables may end.
_SUFFIXES = (".yml", ".yaml", ".json")
COMMAND_LINE = Place("-e on the command line")


class _Unresolved:
    """The value of a variable that only the host itself can tell."""

    def __repr__(self) -> str:
        return "<known on the host>"


UNRESOLVED = _Unresolved()


class Unreadable(Exception):
    """A value cannot be worked out: a template names nothing, or a vault does not open."""


@dataclass(frozen=True)
class Setting:
    """One variable that the inventory or `-e` sets; `value` is as written, templates included."""

    name: str
    value: Any
    place: Place


class Inventory:
    """The inventory of a run, read afresh: `--limit` does not hide a part of it.

    Args:
        bundle: What may be set.
        loader: Ansible's loader, which knows the vault secrets.
        sources: The inventory sources, as `-i` had them.
        extra: What `-e` sets.
    """

    def __init__(
        self,
        bundle: Bundle,
        loader: DataLoader,
        sources: Sequence[str],
        extra: Mapping[str, Any],
    ) -> None:
        self.bundle = bundle
        self.loader = loader
        self.sources = [str(source) for source in sources]
        self._extra_vars = dict(extra)
        self._inventory = InventoryManager(loader=loader, sources=self.sources)
        self._manager = VariableManager(loader=loader, inventory=self._inventory)
        HostVars(self._inventory, self._manager, loader)
        self._settings: dict[tuple[type, str], tuple[list[Setting], list[Setting]]] = {}
        self._values: dict[tuple[str, str], Any] = {}
        self._templars: dict[str, Templar] = {}

    @cached_property
    def members(self) -> dict[str, list[str]]:
        """The hosts of each group that a playbook names."""
        groups = self._inventory.groups
        names = (*self.bundle.process_groups, *DATASTORES)
        return {name: [host.name for host in groups[name].get_hosts()] if name in groups else [] for name in names}

    @cached_property
    def hosts(self) -> list[str]:
        """Every host on which something of the site runs."""
        return list(dict.fromkeys(host for hosts in self.members.values() for host in hosts))

    @property
    def group_names(self) -> list[str]:
        """Every group that the inventory has, known or not."""
        return sorted(set(self._inventory.groups) - {"all", "ungrouped"})

    def groups_of(self, host: str) -> set[str]:
        """The groups of a host."""
        return {group.name for group in self._inventory.hosts[host].get_groups()}

    @property
    def folder(self) -> Path:
        """The folder of the inventory that wins where several were given."""
        path = Path(self.sources[-1]) if self.sources else self.bundle.root / "inventory" / "single"
        return path.parent if path.is_file() else path

    @property
    def hosts_file(self) -> Place:
        """The file that says which host is in which group."""
        for name in ("hosts.yml", "hosts.yaml", "hosts.ini", "hosts"):
            if (self.folder / name).is_file():
                return Place(str(self.folder / name))
        return Place(self.sources[-1] if self.sources else str(self.folder / "hosts.yml"))

    @property
    def choices_file(self) -> Place:
        """The file for a choice that is not made yet."""
        folder = self.folder / "group_vars" / "all"
        candidates = [
            folder.with_suffix(".yml"),
            folder / "main.yml",
            *sorted(folder.glob("*.yml")),
        ]
        existing = (file for file in candidates if file.is_file())
        return Place(str(next(existing, folder / "main.yml")))

    def unused_files(self) -> Iterator[tuple[Path, str, list[str]]]:
        """Files of variables that Ansible never reads: they name no group and no host.

        Yields:
            The file or folder, whether it should name a group or a host, and those there are.
        """
        known = {
            "group": sorted(self._inventory.groups),
            "host": sorted(self._inventory.hosts),
        }
        for source in map(Path, self.sources):
            folder = source if source.is_dir() else source.parent
            for kind, names in known.items():
                for file in sorted((folder / f"{kind}_vars").glob("[!.]*")):
                    name = file.name.removesuffix(file.suffix if file.suffix in _SUFFIXES else "")
                    if name not in names and not name.endswith("~"):
                        yield file, kind, names

    def place_of_host(self, host: str) -> Place:
        """The line that brings a host into the inventory."""
        name = self._inventory.hosts[host].vars.get("inventory_hostname")
        return _origin(name) or Place(self.hosts_file.source, line_of(Path(self.hosts_file.source), host))

    def settings(self) -> list[Setting]:
        """All that is set for the site's hosts and groups, in force or overridden."""
        groups = [group for host in self.hosts for group in self._groups(host)]
        groups += [group for name, group in self._inventory.groups.items() if name in self.members]
        layers = [layer for group in groups for layer in self._of(group)]
        layers += [layer for host in self.hosts for layer in self._of(self._inventory.hosts[host])]
        settings = [setting for layer in layers for setting in layer] + self._extra
        return list({(item.name, item.place): item for item in settings}.values())

    def settings_of(self, host: str) -> dict[str, Setting]:
        """What is in force on one host, by name: the strongest source of each."""
        # A file in group_vars is stronger than any group in the file of hosts.
        inside, beside = zip(*map(self._of, self._groups(host)), strict=True)
        layers = [*inside, *beside, *self._of(self._inventory.hosts[host]), self._extra]
        return {setting.name: setting for layer in layers for setting in layer}

    def defined(self, host: str, name: str) -> bool:
        """Whether a variable has a value on a host, be it a default."""
        return name in self._templar(host).available_variables

    def value(self, host: str, name: str) -> Any:
        """The value of a variable on a host, with its templates filled in.

        Returns:
            The value; None where there is none; `UNRESOLVED` where it rests on facts of the host, which
            are not known yet.

        Raises:
            Unreadable: It cannot be worked out.
        """
        key = (host, name)
        if key not in self._values:
            self._values[key] = self._work_out(host, name)
        value = self._values[key]
        if isinstance(value, Unreadable):
            raise value
        return value

    def _work_out(self, host: str, name: str) -> Any:
        templar = self._templar(host)
        if name not in templar.available_variables:
            return None
        try:
            return templar.template(templar.available_variables[name])
        except AnsibleUndefinedVariable as error:
            about_host = any(word in str(error) for word in ("ansible_facts", "'ansible_", "'site_host'"))
            return UNRESOLVED if about_host else Unreadable(_sentence(error))
        except AnsibleError as error:
            return Unreadable(_sentence(error))

    def _templar(self, host: str) -> Templar:
        if host not in self._templars:
            inventory = self._manager.get_vars(host=self._inventory.hosts[host])
            # Not gathered yet. An empty dictionary here would make a template of a fact look like a
            # misspelt key.
            inventory.pop("ansible_facts", None)
            variables = self._defaults | inventory | self._derived | self._extra_vars
            self._templars[host] = Templar(loader=self.loader, variables=variables)
        return self._templars[host]

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for file in self.bundle.defaults_files:
            merged |= self.loader.load_from_file(str(file), trusted_as_template=True) or {}
        return merged

    @cached_property
    def _derived(self) -> Mapping[str, Any]:
        everyone = [self._inventory.groups["all"]]
        facts: Mapping[str, Any] = get_vars_from_path(
            self.loader, str(self.bundle.root / "playbooks"), everyone, "task"
        )
        return facts

    @cached_property
    def _extra(self) -> list[Setting]:
        return [
            Setting(name, value, _place(name, value, []) or COMMAND_LINE) for name, value in self._extra_vars.items()
        ]

    def _groups(self, host: str) -> list[Group]:
        groups: list[Group] = sort_groups(self._inventory.hosts[host].get_groups())
        return groups

    def _of(self, entity: Group | Host) -> tuple[list[Setting], list[Setting]]:
        """What a group or a host sets: in the file of hosts, and in group_vars or host_vars."""
        key = (type(entity), entity.name)
        if key not in self._settings:
            kind = "host_vars" if isinstance(entity, Host) else "group_vars"
            files = sorted(str(file) for file in (self.folder / kind).rglob("*"))
            self._settings[key] = (
                self._listed(entity.vars, [self.hosts_file.source, *self.sources]),
                self._listed(
                    get_vars_from_inventory_sources(self.loader, self.sources, [entity], "task"),
                    [file for file in files if entity.name in file],
                ),
            )
        return self._settings[key]

    def _listed(self, variables: Mapping[str, Any], files: Sequence[str]) -> list[Setting]:
        return [
            Setting(str(name), value, _place(name, value, files) or Place(str(self.folder)))
            for name, value in variables.items()
            if name not in _AUTOMATIC
        ]


def _place(name: str, value: Any, files: Iterable[str]) -> Place | None:
    """Where a variable is set.

    The tag of its name has the right line, unless two files set it: then that of its value has.
    """
    of_name, of_value = _origin(name), _origin(value)
    if of_name and of_value and of_name.source != of_value.source:
        return of_value
    if of_name or of_value:
        return of_name or of_value
    for file in files:
        if line := line_of(Path(file), name):
            return Place(file, line)
    return None


def _origin(value: Any) -> Place | None:
    tag = Origin.get_tag(value) if Origin else None
    if tag is None:
        return None
    if tag.path:
        return Place(str(tag.path), tag.line_num)
    return COMMAND_LINE if "-e" in str(tag.description) else None


def _sentence(error: AnsibleError) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") + "."
