"""A database of several hosts, as Patroni of one of them sees it: docs/databases.md."""

from __future__ import annotations

import json
import re
import ssl
import urllib.request
from pathlib import Path
from typing import Any

PATRONI = Path("/etc/patroni")
ADDRESS = re.compile(r'(?m)^  connect_address: "(\S+:8008)"$')
NAME = re.compile(r"(?m)^name: (\".+\")$")
SECONDS = 10
# What a member is that has all that there is.
UP = ("running", "streaming")
# Bytes: more than that it must not lack if it is to lead (maximum_lag_on_failover).
BEHIND = 1024 * 1024


def report(folder: Path = PATRONI) -> dict[str, Any] | None:
    """Return how this member of a database is, as JSON has it; None where the database has one host, or is elsewhere.

    Args:
        folder: of Patroni's configuration.

    Returns:
        `here`, its name; `leads`, the name of the member that leads, or None; `state`, its own; and `error`, why
        nothing is known, empty where it is.
    """
    for file in folder.glob("*-main.yml"):
        text = file.read_text()
        address, name = ADDRESS.search(text), NAME.search(text)
        if address and name:
            return _asked(json.loads(name[1]), address[1], folder / "member")
    return None


def _asked(name: str, address: str, certificates: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"here": name, "leads": None, "state": "", "error": ""}
    try:
        context = ssl.create_default_context(cafile=str(certificates / "authority.pem"))
        context.load_cert_chain(str(certificates / "member.pem"))
        # Nothing that the environment names stands between a host and itself.
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        with urllib.request.build_opener(*handlers).open(f"https://{address}/cluster", timeout=SECONDS) as answer:
            members = {member["name"]: member for member in json.load(answer)["members"]}
    except (OSError, ValueError, KeyError) as error:
        return found | {"error": " ".join(f"{type(error).__name__}: {error}".split())}
    leaders = [each for each, member in members.items() if member["role"] == "leader" and member["state"] in UP]
    mine = members.get(name, {})
    lag = mine.get("lag", 0)
    state = str(mine.get("state", "unknown to the others"))
    if state in UP and leaders != [name] and (not isinstance(lag, int) or lag > BEHIND):
        state = "behind"
    return found | {"leads": leaders[0] if leaders else None, "state": state}


def as_text(found: dict[str, Any] | None) -> list[str]:
    """Return that in lines for a person."""
    if not found:
        return []
    if found["error"]:
        return [f"database: Patroni does not answer: {found['error']}"]
    leads = f"{found['leads']} leads" if found["leads"] else "nobody leads"
    return [f"database: {leads}, {found['here']} is {found['state']}"]
