"""The settings of the ledger, read when they are needed: see the table in `celeriac.ledger`."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

# Looks of the sweep in the time of the bound. A task is sent again when all of them have missed it.
LOOKS = 4


def enabled() -> bool:
    """Return whether this site has its tasks noted at all."""
    return bool(_setting("ENABLED", True))


def bound() -> timedelta:
    """Return for how long a task must be nowhere until it is sent again.

    The default is long for a hand-over, which takes milliseconds, because a process that is frozen
    for seconds, by a host without memory say, still has what it took.
    """
    return timedelta(seconds=float(_setting("BOUND_SECONDS", 60)))


def look_seconds() -> float:
    """Return the time between two looks, in seconds."""
    return bound().total_seconds() / LOOKS


def keep() -> timedelta:
    """Return how old a row may become."""
    return timedelta(seconds=float(_setting("KEEP_SECONDS", 7 * 24 * 3600)))


def keep_rows() -> int:
    """Return how many rows may be there."""
    return int(_setting("KEEP_ROWS", 1_000_000))


def revoked_of_project() -> Callable[[set[str]], set[str]]:
    """Return the project's own function that picks the revoked ones of some task ids.

    Raises:
        ImportError: the setting names nothing that can be imported.
    """
    path = str(_setting("REVOKED", ""))
    found: Callable[[set[str]], set[str]] = import_string(path) if path else lambda _: set()
    return found


def _setting(name: str, default: Any) -> Any:
    return getattr(settings, f"CELERIAC_LEDGER_{name}", default)
