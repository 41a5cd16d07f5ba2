"""What a process tells systemd, with nothing but the standard library.

**Messages.** The protocol is sd_notify(3): one datagram of ``NAME=value`` lines to the socket that
``NOTIFY_SOCKET`` names. systemd counts it for a ``Type=notify`` unit.

**The watchdog.** A process that does not report in time is ended and started again.
``WatchdogSec=`` of the unit arrives as ``WATCHDOG_USEC``; see sd_watchdog_enabled(3). A report may
come only from where the work is done: one from a thread or a timer would praise a dead loop.

**Sockets.** Those that systemd has opened are named in ``LISTEN_…``, sd_listen_fds(3), for this process alone.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

# A full queue means that systemd itself does not read. A process must not stand still for it.
SEND_TIMEOUT_SECONDS = 1.0
# A loop may come by hundreds of times a second.
FEEDS_IN_THE_TIME = 10


def notify(state: str) -> bool:
    r"""Tell systemd a new state of this process.

    Args:
        state: lines of ``NAME=value``, for example ``"READY=1\nSTATUS=consuming"``.

    Returns:
        Whether the message was handed over. False outside a ``Type=notify`` unit, and when the
        socket does not take it: to be heard is never worth an exception in the process itself.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):  # unix(7): an abstract address begins with a zero byte
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(SEND_TIMEOUT_SECONDS)
            sender.connect(address)
            sender.sendall(state.encode())
    except OSError:
        return False
    return True


@contextmanager
def keep_sockets() -> Iterator[None]:
    """Keep what is known of the sockets while a project is imported.

    Some take it out of the environment for themselves: twisted does, and with it every project that has daphne among
    its apps.
    """
    known = {name: value for name, value in os.environ.items() if name.startswith("LISTEN_")}
    try:
        yield
    finally:
        os.environ.update(known)


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
