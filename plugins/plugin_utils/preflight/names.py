"""The closed world: a name that nothing reads is a mistake, and usually a misspelt one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Set
from typing import Any

from .bundle import ALLOWED_EXTRA, Bundle, Option
from .inventory import COMMAND_LINE, Inventory, Setting
from .problem import Place, Problem

# Connection variables belong to Ansible; secrets are read by name from wherever the operator likes.
OPEN_PREFIXES = ("ansible_", "vault_")

# Words of the command line of one playbook; an inventory must not decide them for every run.
ARGUMENTS = {
    "release": "playbooks/rollback.yml",
    "migrations": "playbooks/rollback.yml",
    "accept_loss": "playbooks/rollback.yml",
    "format": "playbooks/status.yml",
    "state": "playbooks/maintenance.yml",
    "processes": "playbooks/maintenance.yml",
    "label": "playbooks/backup.yml",
    "to": "playbooks/restore.yml",
    "confirm": "playbooks/restore.yml",
    "others": "playbooks/restore.yml",
    "secret": "playbooks/rotate.yml",
    "fallback": "playbooks/rotate.yml",
    "remove": "playbooks/remove.yml",
    "backup": "playbooks/remove.yml",
    # What Ansible makes of the words behind a space: `-e to='2027-01-31 12:00'`.
    "_raw_params": "playbooks/restore.yml",
}

# What to write for a choice that has no default and no choices, or whose default must be quoted.
_EXAMPLES = {
    "site_relock": '"false"',
    "site_python": '"3.13"',
    "backup_database_calendar": '"*-*-* 02:30"',
    "site_domain": "www.mysite.org",
    "nginx_tls_certificate": "/home/me/tls/fullchain.pem",
    "nginx_tls_key": "/home/me/tls/privkey.pem",
}
_BY_TYPE: dict[str, str] = {
    "int": "1",
    "float": "1.0",
    "bool": "true",
    "list": "[]",
    "dict": "{}",
    "path": "/path/to/file",
}


def example_of(option: Option) -> str:
    """A line that sets the option rightly: its default, or else a value of its type."""
    spec = option.spec
    if option.name in _EXAMPLES:
        return f"{option.name}: {_EXAMPLES[option.name]}"
    default = spec.get("default")
    if isinstance(default, str) and "{{" in default:
        default = None
    if default in (None, "", [], {}) and spec.get("choices"):
        default = spec["choices"][0]
    if default in (None, ""):
        return f"{option.name}: {_BY_TYPE.get(spec.get('type', 'str'), 'text')}"
    return f"{option.name}: {as_yaml(default)}"


def as_yaml(value: Any) -> str:
    """A value on one line, as YAML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(as_yaml(item) for item in value) + "]"
    return str(value)


def nearest(name: str, known: Iterable[str], likeness: float = 0.7) -> str | None:
    """The known name that looks most like `name`, from 0 to 1; None where none does."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)), None)


def closed_world(settings: Iterable[Setting], bundle: Bundle, extra: Set[str]) -> Iterator[Problem]:
    """Refuse every variable that is no choice.

    Args:
        settings: What the inventory and `-e` set.
        bundle: What may be set.
        extra: The names in `site_extra_variables`.
    """
    for setting in settings:
        name = setting.name
        option = bundle.options.get(name)
        if name in ARGUMENTS and setting.place == COMMAND_LINE:
            continue
        if name in bundle.derived:
            yield _derived(setting, bundle)
        elif option and not option.settable:
            yield _private(setting, option)
        elif not option and name not in extra and name != ALLOWED_EXTRA and not name.startswith(OPEN_PREFIXES):
            yield _unknown(setting, bundle)


def _derived(setting: Setting, bundle: Bundle) -> Problem:
    fact = bundle.derived[setting.name]
    choice = next((name for name in bundle.settable if re.search(rf"\b{name}\b", fact.text)), None)
    always = "" if "{{" in fact.text else f": `{setting.name}` is always {fact.text}"
    return Problem(
        f"`{setting.name}` is no choice: it follows from your choices in {fact.place}. Remove the line.",
        setting.place,
        example_of(bundle.options[choice]) if choice else f"no line at all{always}",
    )


def _private(setting: Setting, option: Option) -> Problem:
    return Problem(
        f"`{setting.name}` is passed from role to role inside this bundle (role {option.role}). Remove the line.",
        setting.place,
        "roles/*/defaults/main.yml lists what you may set",
    )


def _unknown(setting: Setting, bundle: Bundle) -> Problem:
    near = nearest(setting.name, bundle.settable)
    if near:
        return Problem(
            f"Nothing reads a variable named `{setting.name}`. The nearest name is `{near}`.",
            setting.place,
            example_of(bundle.options[near]),
        )
    return Problem(
        f"Nothing reads a variable named `{setting.name}`, and no known name is like it: "
        "roles/*/defaults/main.yml has them all. "
        "If a playbook of your own reads it, say so.",
        setting.place,
        f"{ALLOWED_EXTRA}: [{setting.name}]",
    )


def unused_files(inventory: Inventory) -> Iterator[Problem]:
    """Refuse files of variables for a group or a host that the inventory does not have."""
    for file, kind, names in inventory.unused_files():
        near = nearest(file.stem, names, 0.5) or ("all" if kind == "group" else "HOST")
        yield Problem(
            f"No {kind} of the inventory is named `{file.stem}`: Ansible does not read this file.",
            Place(str(file)),
            f"{kind}_vars/{near}{file.suffix}",
        )
