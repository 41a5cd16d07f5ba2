"""Flower on a socket that outlives it, as systemd keeps it."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from environment import process_environment
from testkit.redis import Redis

ANSWER_SECONDS = 60
# What systemd does between fork and exec: sd_listen_fds(3).
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class Kept:
    """A listening socket, the Flower behind it, if any, and requests to whichever it is."""

    def __init__(self, path: Path, environment: dict[str, str]) -> None:
        self._path = str(path)
        self._environment = {**environment, "FLOWER_UNIX_SOCKET": self._path}
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self._path)
        self._socket.listen()

    @contextmanager
    def flower(self) -> Iterator[None]:
        """Run Flower, which has the socket as its first descriptor behind the usual three."""
        descriptor = self._socket.fileno()
        command = ["-m", "celeriac.celery", "--app=celeriac.monitor", "flower"]
        process = subprocess.Popen(
            [sys.executable, "-c", HAND_OVER, str(descriptor), *command],
            env=self._environment,
            cwd=self._environment["SCRATCH"],
            pass_fds=[descriptor],
            start_new_session=True,
        )
        try:
            yield
        finally:
            os.kill(process.pid, signal.SIGTERM)
            process.wait(ANSWER_SECONDS)

    def ask(self) -> http.client.HTTPConnection:
        """Send a request, and do not wait for its answer."""
        asking = http.client.HTTPConnection("flower", timeout=ANSWER_SECONDS)
        asking.sock = socket.socket(socket.AF_UNIX)
        asking.sock.settimeout(ANSWER_SECONDS)
        asking.sock.connect(self._path)
        asking.request("GET", "/healthcheck")
        return asking


@pytest.fixture
def kept(tmp_path: Path, redis: Redis, project: Path) -> Kept:
    """A socket without a Flower, and a project that would have it (twisted would)."""
    with (project / "demo" / "celery.py").open("a") as module:
        module.write("\nimport os\nos.environ.pop('LISTEN_PID', None)\n")
    return Kept(
        tmp_path / "flower.sock",
        {**process_environment(tmp_path, project), "BROKER_URL": redis.url},
    )


def test_a_request_waits_while_one_flower_is_replaced_by_another(kept: Kept) -> None:
    for _ in range(2):
        asking = kept.ask()
        with kept.flower():
            assert asking.getresponse().status == 200
            asking.close()
