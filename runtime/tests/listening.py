"""A listening socket as systemd keeps one, a gunicorn on it, and a client that waits."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from gunicorn.config import make_settings

HOST = "www.example.org"
# Before gunicorn 25 there is no such socket, and such an argument is an error.
NO_CONTROL_SOCKET = ["--no-control-socket"] if "control_socket_disable" in make_settings() else []
GUNICORN = ["-m", "gunicorn", "--preload", *NO_CONTROL_SOCKET, "celeriac.web.wsgi:application"]
# sd_listen_fds(3): the socket is number 3, and the variables name the process that it is for.
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


class Waiting:
    """A listening socket as systemd keeps one, and a client that already waits for its answer.

    Attributes:
        client: it has sent its request.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.client = socket.create_connection(self._listener.getsockname())
        self.client.sendall(f"GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())

    @contextmanager
    def gunicorn(self, environment: dict[str, str], *options: str) -> Iterator[subprocess.Popen[str]]:
        """Run gunicorn on the socket as a unit does, until the block ends."""
        number = self._listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-c", AS_SYSTEMD, str(number), sys.executable, *GUNICORN, *options],
            env=environment,
            pass_fds=[number],
            cwd=environment["SCRATCH"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=20)

    def refused(self, environment: dict[str, str]) -> str:
        """Start a gunicorn that ends by itself, without a word to the client; return its output."""
        with self.gunicorn(environment) as process:
            output, _ = process.communicate(timeout=40)
        assert process.returncode == 1, output
        assert "Booting worker" not in output
        self.client.settimeout(0)
        with pytest.raises(BlockingIOError):
            self.client.recv(1)
        return output

    def answer(self) -> str:
        """Wait for the answer to the client."""
        self.client.settimeout(20)
        return self.client.makefile().readline().strip()

    def close(self) -> None:
        """Close both ends."""
        self.client.close()
        self._listener.close()
