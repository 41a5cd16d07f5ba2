"""What all suites of this folder share."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Let a run that ``timeout`` or ``kill`` ends take its machines with it, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
