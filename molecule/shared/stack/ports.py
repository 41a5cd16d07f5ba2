"""Which TCP ports answer, seen from this computer."""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Iterable

# Connections under way at once: below the usual limit of 1024 open files.
BATCH = 500
# On a bridge of this computer an answer takes microseconds; a port that drops packets gives none.
ANSWER_SECONDS = 1.0


def open_ports(address: str, ports: Iterable[int] = range(1, 65536)) -> set[int]:
    """Return the ports on which a connection can be opened."""
    todo = list(ports)
    batches = [todo[start : start + BATCH] for start in range(0, len(todo), BATCH)]
    return {port for batch in batches for port in _open_of(address, batch)}


def _open_of(address: str, ports: list[int]) -> set[int]:
    found = set()
    with selectors.DefaultSelector() as selector:
        for port in ports:
            attempt = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            if attempt.connect_ex((address, port)) == errno.EINPROGRESS:
                selector.register(attempt, selectors.EVENT_WRITE, port)
            else:
                attempt.close()
        deadline = time.monotonic() + ANSWER_SECONDS
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(deadline - time.monotonic()):
                attempt = key.fileobj  # type: ignore[assignment]  # all of them are sockets
                if attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    found.add(key.data)
                selector.unregister(attempt)
                attempt.close()
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
    return found
