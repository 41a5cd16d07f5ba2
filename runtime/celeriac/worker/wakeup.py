"""What a thread of the pool tells the event loop is done at once, as kombu sees to itself since 5.7.

A thread leaves the acknowledgement of its task to the loop. Before, that sleeps on until a message or a timer comes, up
to a second: so long the worker has no room for another task, and if it is killed this one is executed again.
"""

import socket
import threading
from contextlib import suppress
from typing import Any

from celeriac import internals
from celeriac.extension import ConsumerExtension


class WakeLoop(ConsumerExtension):
    """Wakes an event loop that another thread has given something to do."""

    def include_if(self, consumer: Any) -> bool:
        """Return whether the loop would sleep on."""
        return consumer.hub is not None and not internals.wakes_itself(consumer.hub)

    def create(self, consumer: Any) -> None:
        """Prepare it, once for all connections."""
        self._thread = 0  # of the loop
        self._told, self._tells = socket.socketpair()
        self._told.setblocking(False)
        self._tells.setblocking(False)
        internals.on_call_soon(consumer.hub, self._wake)

    def start(self, consumer: Any) -> None:
        """Listen anew: with its connection the loop has lost all that it listened to."""
        self._thread = threading.get_ident()
        consumer.hub.add_reader(self._told, self._told.recv, 4096)

    def _wake(self) -> None:
        if threading.get_ident() != self._thread:
            with suppress(BlockingIOError):  # it has been told often enough
                self._tells.send(b"\0")
