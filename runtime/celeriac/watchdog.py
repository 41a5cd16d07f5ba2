"""The watchdog of systemd: a process that does not report in time is ended and started again.

``WatchdogSec=`` of the unit arrives as ``WATCHDOG_USEC``; see sd_watchdog_enabled(3). A report may
come only from where the work is done: one from a thread or a timer would praise a dead loop.
"""

import os
import time

from celeriac.notify import notify

# A loop may come by hundreds of times a second.
FEEDS_IN_THE_TIME = 10


class Watchdog:
    """The watchdog of this process, if its unit has one.

    Attributes:
        seconds: how long it waits for a report, None without one.
    """

    def __init__(self) -> None:
        self.seconds = _seconds()
        self._fed: float | None = None  # time.monotonic() of the last report

    def feed(self) -> None:
        """Report that this process does its work; cheap enough for the innermost loop."""
        if self.seconds is None:
            return
        now = time.monotonic()
        if self._fed is None or now - self._fed >= self.seconds / FEEDS_IN_THE_TIME:
            notify("WATCHDOG=1")
            self._fed = now


def _seconds() -> float | None:
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # without one, or it watches another process of the unit
    return int(microseconds) / 1e6
