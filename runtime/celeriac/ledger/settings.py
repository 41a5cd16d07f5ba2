"""The settings of the journal, read when they are needed: see the table in `celeriac.ledger`."""

from datetime import timedelta
from typing import Any

from django.conf import settings


def enabled() -> bool:
    """Return whether this site has its tasks recorded at all."""
    return bool(_setting("ENABLED", True))


def keep() -> timedelta:
    """Return how old a row may become."""
    return timedelta(seconds=float(_setting("KEEP_SECONDS", 7 * 24 * 3600)))


def keep_rows() -> int:
    """Return how many rows may be there."""
    return int(_setting("KEEP_ROWS", 1_000_000))


def _setting(name: str, default: Any) -> Any:
    return getattr(settings, f"CELERIAC_LEDGER_{name}", default)
