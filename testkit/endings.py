"""How a run of tests ends before its time."""

from __future__ import annotations

import signal


def end_as_by_ctrl_c() -> None:
    """Let a run that ``timeout`` or ``kill`` ends take its servers with it, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
