"""A Redis of a test run."""

from __future__ import annotations

import signal
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import redis as redis_client

from testkit.ports import free_port
from testkit.programs import find_program
from testkit.waiting import eventually


@contextmanager
def redis_server(*, on_disk: bool = False, password: str = "") -> Iterator[Redis]:
    """Run a redis-server on a free port of the loopback address.

    Args:
        on_disk: it keeps everything on disk, as that of a host does.
        password: of its default user; empty for none.
    """
    with TemporaryDirectory(prefix="redis-") as directory:
        server = Redis(Path(directory), free_port(), on_disk, password)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@dataclass
class Redis:
    """A redis-server of one test run.

    Attributes:
        directory: where it runs.
        port: where it listens, on 127.0.0.1; the same one over a restart.
        on_disk: whether it keeps anything over a restart.
        password: of its default user; empty for none.
    """

    directory: Path
    port: int
    on_disk: bool = False
    password: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The URL of its first database, for Celery and for clients."""
        return self.database(0)

    def database(self, number: int) -> str:
        """Return the URL of one of its databases."""
        log_in = f":{urllib.parse.quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{log_in}127.0.0.1:{self.port}/{number}"

    def start(self) -> None:
        """Start it, with what it has on disk, and wait until it answers. Does nothing while it runs."""
        if self._process is not None:
            return
        program = find_program("redis-server", "redis-server")
        # Written before each answer: a kill takes nothing. With `everysec` a slow disk may hold two seconds back.
        kept = ["--appendonly", "yes" if self.on_disk else "no", "--appendfsync", "no"]
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *kept]
        if self.password:
            arguments += ["--requirepass", self.password]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *arguments, "--dir", str(self.directory)], stdout=log, stderr=log
            )
        eventually(self._answers, pause=0.02, what=f"redis-server on port {self.port}")

    def stop(self) -> None:
        """Kill it; it forgets what is not on disk. Does nothing while it is stopped."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it answer nothing until the block ends."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def forget(self, number: int) -> None:
        """Empty one of its databases."""
        with redis_client.Redis.from_url(self.database(number)) as client:
            client.flushdb()

    def _answers(self) -> bool:
        with suppress(redis_client.RedisError), redis_client.Redis.from_url(self.url, socket_timeout=1) as client:
            return bool(client.ping())
        return False
