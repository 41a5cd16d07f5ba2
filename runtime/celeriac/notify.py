"""Messages to systemd: the sd_notify protocol, with nothing but the standard library.

The protocol is sd_notify(3): one datagram of ``NAME=value`` lines to the socket that
``NOTIFY_SOCKET`` names. systemd counts it for a ``Type=notify`` unit.
"""

import os
import socket

# A full queue means that systemd itself does not read. A process must not stand still for it.
SEND_TIMEOUT_SECONDS = 1.0


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
