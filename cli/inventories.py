"""Which inventory is meant, where nobody says so."""

from __future__ import annotations

import re
from pathlib import Path

import click

from cli.places import INVENTORIES

HOSTS = "hosts.yml"
# The one of bin/demo is meant only where it is named.
_DEMO = "demo"
# As the examples have it: nobody's host, so nobody's inventory yet.
_UNTOUCHED = re.compile(r"(?m)^\s*ansible_host: \S+\.example\.org\s*$")


def chosen(named: str | None) -> Path:
    """Return the folder (or file) of the inventory.

    Args:
        named: what `-i` or CELERIAC_INVENTORY says: a path, or the name of a folder in `inventory/`.

    Raises:
        click.UsageError: there is none, or there are several.
    """
    if named:
        for path in (Path(named).expanduser(), INVENTORIES / named):
            if path.exists():
                return path.resolve()
        raise click.UsageError(f"There is no inventory {named}. Here are: {', '.join(names()) or 'none'}.")
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / HOSTS).is_file():
            return folder
    mine = [name for name in names() if name != _DEMO and not _is_untouched(INVENTORIES / name)]
    if not mine:
        raise click.UsageError(
            "There is no inventory yet. `celeriac init /home/me/mysite --host 203.0.113.10 --domain www.mysite.org` "
            "writes one."
        )
    if len(mine) > 1:
        raise click.UsageError(
            f"There are several inventories. Say which: `celeriac -i {mine[0]} …`, or CELERIAC_INVENTORY={mine[0]}. "
            f"Here are: {', '.join(mine)}."
        )
    return INVENTORIES / mine[0]


def names() -> list[str]:
    """Return the names of the inventories in the checkout."""
    return sorted(path.parent.name for path in INVENTORIES.glob(f"*/{HOSTS}"))


def _is_untouched(inventory: Path) -> bool:
    return bool(_UNTOUCHED.search((inventory / HOSTS).read_text()))
