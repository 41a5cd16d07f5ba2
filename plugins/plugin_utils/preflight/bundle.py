"""What may be set, by the argument specs, the derived facts and the playbooks of the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .problem import Place, line_of

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

# The choices of the operator that more than one role reads. It has no tasks, and it holds on every
# host.
SHARED_ROLE = "site"
# Roles that only other roles call: their options are passed from role to role.
HELPER_ROLES = frozenset({"systemd_service"})
# How a playbook says that a role of a play is not for all of its hosts.
_IN_GROUP = re.compile(r"'(\w+)' in group_names")
# The fact that lists the processes that every site has: an inventory adds more of their groups.
PROCESSES = "site_own_processes"
# The choice that allows names beside those of the bundle: an operator's own playbooks read them.
ALLOWED_EXTRA = "site_extra_variables"


@dataclass(frozen=True)
class Option:
    """One option of a role, as its argument spec has it."""

    name: str
    role: str
    spec: Mapping[str, Any]

    @property
    def settable(self) -> bool:
        """Whether an inventory may set it."""
        return not self.name.startswith("__") and self.role not in HELPER_ROLES

    @property
    def secret(self) -> bool:
        """Whether its value must not be printed."""
        words = re.split(r"_", self.name)
        return bool(self.spec.get("no_log")) or bool({"password", "secret", "token", "environment"} & set(words))


@dataclass(frozen=True)
class Fact:
    """A derived fact: where it is written, and its value there, templates included."""

    place: Place
    text: str


@dataclass(frozen=True)
class Bundle:
    """The vocabulary of the repository.

    Args:
        root: The repository.
        options: Every option of every role, by name.
        derived: The facts that follow from the choices.
        process_groups: The inventory groups whose hosts run processes of the site.
        process_names: What the processes of every site are called.
        groups_of: The inventory groups on which a role runs, by role.
        defaults_files: The defaults of the roles.
    """

    root: Path
    options: Mapping[str, Option]
    derived: Mapping[str, Fact]
    process_groups: tuple[str, ...] = ()
    process_names: tuple[str, ...] = ()
    groups_of: Mapping[str, frozenset[str]] = field(default_factory=dict)
    defaults_files: tuple[Path, ...] = ()

    @property
    def settable(self) -> list[str]:
        """The names an inventory may set."""
        return sorted(name for name, option in self.options.items() if option.settable and name not in self.derived)

    def runs_on(self, role: str, groups: set[str]) -> bool:
        """Whether a role runs on a host that is in these groups."""
        return role == SHARED_ROLE or bool(self.groups_of.get(role, frozenset()) & groups)


def read_yaml(path: Path) -> Any:
    """A YAML file as plain data, `{}` for an empty one; what has a tag such as `!vault` is text."""
    with path.open(encoding="utf-8") as file:
        return yaml.load(file, Loader=_Reader) or {}


class _Reader(SafeLoader):
    """A safe loader that does not stumble over Ansible's own tags."""


def _text_of(loader: yaml.Loader, _suffix: str, node: yaml.Node) -> Any:
    return node.value if isinstance(node, yaml.ScalarNode) else None


_Reader.add_multi_constructor("!", _text_of)


def read_bundle(root: Path) -> Bundle:
    """Read the repository.

    Args:
        root: The folder that holds `roles/` and `playbooks/`.

    Raises:
        OSError, yaml.YAMLError: A file of the repository itself is unreadable.
    """
    processes = read_yaml(root / "playbooks" / "group_vars" / "all" / "facts.yml")[PROCESSES]
    return Bundle(
        root=root,
        options={option.name: option for option in _options(root / "roles")},
        derived=_derived(root / "playbooks" / "group_vars" / "all"),
        process_groups=tuple(dict.fromkeys(process["group"] for process in processes)),
        process_names=tuple(process["name"] for process in processes),
        groups_of=_groups_of(root / "playbooks"),
        defaults_files=tuple(sorted((root / "roles").glob("*/defaults/main.yml"))),
    )


def _options(roles: Path) -> Iterator[Option]:
    # Shared choices last: where a role repeats one of them, the shared one is the option's home.
    files = sorted(roles.glob("*/meta/argument_specs.yml"), key=lambda path: path.parts[-3] == SHARED_ROLE)
    for file in files:
        entry_points = read_yaml(file).get("argument_specs", {})
        for entry_point in entry_points.values():
            for name, spec in (entry_point.get("options") or {}).items():
                yield Option(name, file.parts[-3], spec)


def _derived(folder: Path) -> dict[str, Fact]:
    return {
        name: Fact(Place(str(file), line_of(file, name)), str(value))
        for file in sorted(folder.glob("*.yml"))
        for name, value in read_yaml(file).items()
    }


def _groups_of(playbooks: Path) -> dict[str, frozenset[str]]:
    groups: dict[str, set[str]] = {}
    for file in sorted(playbooks.glob("*.yml")):
        for play in read_yaml(file):
            hosts = set(re.split(r"[:,]", str(play.get("hosts", ""))))
            for entry in play.get("roles", []):
                role = entry.get("role", entry.get("name")) if isinstance(entry, dict) else entry
                chosen = _IN_GROUP.findall(str(entry.get("when", ""))) if isinstance(entry, dict) else []
                groups.setdefault(str(role).rpartition(".")[2], set()).update(chosen or hosts)
    return {role: frozenset(names) for role, names in groups.items()}
