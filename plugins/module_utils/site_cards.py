"""What the sites of a host say of themselves to each other: a card each, in a folder of the host.

A run writes the card of its site before anything else of it is there, and `playbooks/remove.yml` takes it away when
nothing else is left. Sites share daemons: what is chosen about one of those is as the site has it that came first.

The code runs on Python 3.9 too: so a look at an old Debian gets an answer.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.celeriac.site.plugins.module_utils.site_files import write_atomically

FOLDER = Path("/etc/celeriac")
# The choices about daemons that sites share, each with what it is where nobody chooses.
SHARED: dict[str, Any] = {
    "nginx_sandbox": True,
    "nginx_trusted_proxies": [],
    "nginx_proxy_protocol": False,
    "postgresql_sandbox": True,
    "postgresql_settings": {},
    "rabbitmq_memory_mb": 384,
    "rabbitmq_free_disk_mb": 200,
    "rabbitmq_consumer_timeout_seconds": 604800,
    "firewall_enabled": False,
    "firewall_open_ports": [],
    "keepalived_sandbox": True,
    "haproxy_sandbox": True,
}

# As JSON has it.
Card = dict[str, Any]


def cards(folder: Path = FOLDER) -> list[Card]:
    """Return the cards of all sites of the host, that of the one first that came first."""
    found = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    return sorted(found, key=lambda card: (card["since"], card["name"]))


def write(card: Card, folder: Path = FOLDER) -> None:
    """Write the card of a site, unless it is there as it should be.

    Args:
        card: what the site says of itself.
        folder: of all cards.
    """
    before = _card_of(card["name"], folder)
    new = {**card, "since": before.get("since") or f"{datetime.now(timezone.utc):%FT%TZ}"}  # noqa: UP017
    if new != before:
        folder.mkdir(mode=0o755, exist_ok=True)
        _put(new, folder)


def neighbours(name: str, group: str, folder: Path = FOLDER) -> list[str]:
    """Return the names of the other sites of which this host has a part.

    Args:
        name: of the site that asks.
        group: of the inventory, that of the part.
        folder: of all cards.
    """
    return [card["name"] for card in cards(folder) if card["name"] != name and group in card["groups"]]


def begin_removal(name: str, folder: Path = FOLDER) -> None:
    """Note on the card of a site that a run has begun to remove it."""
    if before := _card_of(name, folder):
        _put({**before, "goes": True}, folder)


def is_whole(card: Card) -> bool:
    """Say whether no run has begun to remove the site of a card."""
    return not card.get("goes", False)


def _card_of(name: str, folder: Path) -> Card:
    return next((each for each in cards(folder) if each["name"] == name), {})


def _put(card: Card, folder: Path) -> None:
    text = json.dumps(card, indent=1, sort_keys=True) + "\n"
    write_atomically(folder / f"{card['name']}.json", text.encode())


def is_same(card: Card, other: Card) -> bool:
    """Say whether two cards of one name are of one site: its secret, its folder or one of its domains is the same."""
    return (
        card["mark"] == other["mark"]
        or card["inventory"] == other["inventory"]
        or bool(set(card["domains"]) & set(other["domains"]))
    )
