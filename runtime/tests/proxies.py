"""A TCP proxy that can do what a network does at its worst: swallow, and say nothing."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Passes bytes between its own port and another one, on 127.0.0.1.

    Attributes:
        port: where it listens.
        swallows_new: whether it takes new connections and passes nothing on from them.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.swallows_new = False
        self._swallowed: set[int] = set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """From now on pass on nothing of what comes over the connections that there are."""
        self._swallowed.update(id(pair) for pair in self._pairs)

    def close(self) -> None:
        """Close everything."""
        for each in [self._listener, *(end for pair in self._pairs for end in pair)]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                pair = (client, server)
                self._pairs.append(pair)
                if self.swallows_new:
                    self._swallowed.add(id(pair))
                for source, sink in (pair, pair[::-1]):
                    arguments = (pair, source, sink)
                    threading.Thread(target=self._pass, args=arguments, daemon=True).start()

    def _pass(self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if id(pair) not in self._swallowed:
                    sink.sendall(data)
            if id(pair) not in self._swallowed:
                sink.shutdown(socket.SHUT_WR)


@contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    """Run a proxy to a port of this computer until the block ends."""
    running = Proxy(target)
    try:
        yield running
    finally:
        running.close()
