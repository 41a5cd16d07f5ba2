"""What all suites of this folder share."""

from __future__ import annotations

import signal
from pathlib import Path

from ansible import module_utils

# Where Ansible puts the modules' own code, on a host.
module_utils.__path__.append(str(Path(__file__).parents[1] / "plugins/module_utils"))


def pytest_configure() -> None:
    """Let a run that ``timeout`` or ``kill`` ends take its machines with it, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
