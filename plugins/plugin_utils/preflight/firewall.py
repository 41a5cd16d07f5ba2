"""What is wrong with a port that a firewall is to open."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

PORTS = range(1, 65536)
EXAMPLE = "firewall_open_ports: [{ port: 8443 }, { port: 60000-61000, protocol: udp }]"
EXAMPLE_FROM = 'firewall_open_ports: [{ port: 9100, from: [10.0.0.5, "fd00::/8"] }]'
# Addresses of PostgreSQL that nobody else can reach, whatever the firewall says.
_LOOPBACK = re.compile(r"\s*((localhost|127\.[\d.]+|::1)\s*(,\s*|$))*", re.IGNORECASE)


def fault_of_port(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what is wrong with an entry, as the end of a sentence, and a right one; None for nothing."""
    port = str(entry.get("port"))
    found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", port)
    numbers = [int(each) for each in found.groups() if each] if found else []
    if not numbers or not all(each in PORTS for each in numbers):
        return f"the port `{port}`, which is none: it is a number from 1 to 65535, or a range of them", EXAMPLE
    if numbers != sorted(numbers):
        return f"the range `{port}`, which ends before it begins", EXAMPLE
    for source in entry.get("from") or ():
        try:
            ipaddress.ip_network(str(source), strict=False)
        except ValueError:
            return f"`{port}` open for `{source}`, which is neither an address nor a network", EXAMPLE_FROM
    return None


def is_for_others(addresses: object) -> bool:
    """Say whether `listen_addresses` of PostgreSQL has one that other hosts reach."""
    return isinstance(addresses, str) and not _LOOPBACK.fullmatch(addresses)


def opens(entry: Mapping[str, Any], port: int) -> bool:
    """Say whether an entry, which is right, lets in at a port of TCP."""
    first, _, last = str(entry["port"]).partition("-")
    return entry.get("protocol", "tcp") == "tcp" and int(first) <= port <= int(last or first)
