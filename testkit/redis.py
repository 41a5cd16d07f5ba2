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

from testkit.certificates import Certificate, certificate
from testkit.ports import free_port
from testkit.programs import find_program
from testkit.waiting import eventually


@contextmanager
def redis_server(
    *, on_disk: bool = False, password: str = "", tls: str = "", address: str = "127.0.0.1"
) -> Iterator[Redis]:
    """Run a redis-server on a free port.

    Args:
        on_disk: it keeps everything on disk, as that of a host does.
        password: of its default user; empty for none.
        tls: whom its certificate is for, where it speaks TLS and nothing else.
        address: where it listens.
    """
    with TemporaryDirectory(prefix="redis-") as directory:
        made = certificate(Path(directory), tls) if tls else None
        server = Redis(Path(directory), free_port(), on_disk, password, made, address)
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
        port: where it listens; the same one over a restart.
        on_disk: whether it keeps anything over a restart.
        password: of its default user; empty for none.
        certificate: where it speaks TLS.
        address: where it listens.
    """

    directory: Path
    port: int
    on_disk: bool = False
    password: str = ""
    certificate: Certificate | None = None
    address: str = "127.0.0.1"
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The URL of its first database, for Celery and for clients."""
        return self.database(0)

    def database(self, number: int) -> str:
        """Return the URL of one of its databases."""
        log_in = f":{urllib.parse.quote(self.password, safe='')}@" if self.password else ""
        if self.certificate:
            return f"rediss://{log_in}{self.certificate.name}:{self.port}/{number}"
        return f"redis://{log_in}{self.address}:{self.port}/{number}"

    def start(self) -> None:
        """Start it, with what it has on disk, and wait until it answers. Does nothing while it runs."""
        if self._process is not None:
            return
        program = find_program("redis-server", "redis-server")
        # Written before each answer: a kill takes nothing. With `everysec` a slow disk may hold two seconds back.
        kept = ["--appendonly", "yes" if self.on_disk else "no", "--appendfsync", "no"]
        port = "--tls-port" if self.certificate else "--port"
        arguments = [port, str(self.port), "--bind", self.address, "--save", "", *kept]
        if self.password:
            arguments += ["--requirepass", self.password]
        if made := self.certificate:
            arguments += ["--port", "0", "--tls-cert-file", str(made.certificate), "--tls-key-file", str(made.key)]
            arguments += ["--tls-ca-cert-file", str(made.authority), "--tls-auth-clients", "no"]
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
        client = redis_client.Redis(
            self.address,
            self.port,
            password=self.password or None,
            socket_timeout=1,
            ssl=self.certificate is not None,
            ssl_cert_reqs="none",
            ssl_check_hostname=False,
        )
        with suppress(redis_client.RedisError), client:
            return bool(client.ping())
        return False
