"""What the parts of a site need of a host's memory, and the limits that a process can live with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# systemd.resource-control(5), "MemoryMax=": bytes, and K, M, G and T of 1024 each.
_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>[KMGT]?)")


def fault_of_limit(value: Any, needed_mb: int | None) -> str:
    """Say why a process cannot have a limit of memory.

    Args:
        value: As the inventory has it, None where that is not known.
        needed_mb: What the process has at rest, in megabytes, None where that is not known.

    Returns:
        The end of a sentence, empty where it can.
    """
    if value is None or value == "infinity":
        return ""
    size = _SIZE.fullmatch(str(value))
    if not size:
        return "which systemd does not take for a size: it is a number of bytes, or one with K, M, G or T behind it"
    limit_mb = float(size["number"]) * 1024 ** " KMGT".index(size["unit"] or " ") / 2**20
    if needed_mb is not None and limit_mb < needed_mb:
        return f"and {needed_mb} MB are what it has at rest"
    return ""


def fault_of_host(memory_mb: int, swap_mb: int, always_mb: Mapping[str, int], at_times_mb: Mapping[str, int]) -> str:
    """Say why a host cannot carry its part of a site.

    Args:
        memory_mb: The host's whole memory, in megabytes.
        swap_mb: Its swap, in megabytes.
        always_mb: What each part of the site has, in megabytes. It must fit into memory.
        at_times_mb: What comes to that at times, in megabytes. It may be in swap.

    Returns:
        A sentence, empty where it can.
    """
    always, at_times = sum(always_mb.values()), sum(at_times_mb.values())
    if memory_mb >= always and memory_mb + swap_mb >= always + at_times:
        return ""
    more = f", and {at_times} MB more in either ({_listed(at_times_mb)})" if at_times else ""
    return (
        f"The host has {memory_mb} MB of memory and {swap_mb} MB of swap. "
        f"Its part of the site needs {always} MB of memory ({_listed(always_mb)}){more}."
    )


def _listed(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {amount}" for name, amount in parts.items())
