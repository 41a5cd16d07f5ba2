"""A RabbitMQ of a test run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kombu import Connection

from testkit.certificates import NAME, Certificate, certificate
from testkit.ports import free_port
from testkit.programs import MissingProgramError, find_program
from testkit.waiting import eventually

# Not the program on the PATH, which goes over to the user of Debian's package.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CONTROL = SERVER.with_name("rabbitmqctl")


@contextmanager
def rabbitmq_server(*, tls: str = NAME, address: str = "127.0.0.1") -> Iterator[RabbitMQ]:
    """Run a RabbitMQ with nothing in it, on free ports of the loopback address.

    Args:
        tls: whom its certificate is for.
        address: where it speaks TLS.
    """
    with TemporaryDirectory(prefix="rabbitmq-") as directory:
        folder = Path(directory)
        ports = (free_port(), free_port(), free_port(), free_port())
        server = RabbitMQ(folder, *ports, certificate(folder, tls), address)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@dataclass
class RabbitMQ:
    """A RabbitMQ of one test run, with its own port mapper and cookie: nothing is shared or left behind.

    Attributes:
        directory: where it runs.
        port: where it listens, on 127.0.0.1.
        distribution_port: where other nodes of Erlang would find it.
        names_port: of the Erlang daemon that knows that, which otherwise stays for ever.
        tls_port: where it speaks TLS.
        certificate: of there.
        address: of there.
    """

    directory: Path
    port: int
    distribution_port: int
    names_port: int
    tls_port: int
    certificate: Certificate
    address: str
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False)

    @property
    def url(self) -> str:
        """The URL of its virtual host ``/``, for Celery."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def tls_url(self) -> str:
        """The same, by TLS."""
        return f"amqps://guest:guest@{self.certificate.name}:{self.tls_port}//"

    def start(self) -> None:
        """Start it and wait until it answers, which takes it some seconds."""
        if not SERVER.exists():
            raise MissingProgramError(str(SERVER), "rabbitmq-server")
        files = {"cacertfile": "authority", "certfile": "certificate", "keyfile": "key"}
        lines = [f"listeners.ssl.1 = {self.address}:{self.tls_port}", "loopback_users = none"]
        lines += [f"ssl_options.{name} = {getattr(self.certificate, which)}" for name, which in files.items()]
        (self.directory / "rabbitmq.conf").write_text("\n".join([*lines, ""]))
        for program in (find_program("epmd", "rabbitmq-server"), str(SERVER)):
            self._processes.append(
                subprocess.Popen(
                    [program],
                    env=self._environment,
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
        eventually(self._answers, what=f"rabbitmq-server on port {self.port}")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it answer nothing until the block ends."""
        server = self._processes[-1].pid
        os.killpg(server, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(server, signal.SIGCONT)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Let those wait who send, until the block ends: it has an alarm, as one whose memory is full."""
        self._control("set_vm_memory_high_watermark", "0")
        try:
            yield
        finally:
            self._control("set_vm_memory_high_watermark", "0.6")

    @contextmanager
    def narrow(self, queue: str) -> Iterator[None]:
        """Let a queue have room for one message, and refuse every other one, until the block ends."""
        self._control("set_policy", "narrow", f"^{queue}$", '{"max-length": 1, "overflow": "reject-publish"}')
        try:
            yield
        finally:
            self._control("clear_policy", "narrow")

    def disconnect(self) -> None:
        """Close all connections to it."""
        self._control("close_all_connections", "a test wants it")

    def types(self) -> dict[str, str]:
        """Return the queues of the virtual host, each with its type."""
        command: list[str | Path] = [CONTROL, "list_queues", "name", "type", "--no-table-headers", "--quiet"]
        found = subprocess.run(command, env=self._environment, check=True, capture_output=True, text=True).stdout
        return dict(line.rsplit("\t", 1) for line in found.splitlines())

    def _control(self, *words: str) -> None:
        subprocess.run([CONTROL, *words], env=self._environment, check=True, capture_output=True, timeout=120)

    def stop(self) -> None:
        """Stop it at once."""
        for process in reversed(self._processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def forget(self, queue: str) -> None:
        """Delete a queue with what waits in it."""
        with Connection(self.url) as connection:
            channel: Any = connection.default_channel
            channel.queue_delete(queue)

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),  # of the cookie
            "ERL_EPMD_PORT": str(self.names_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "celeriac@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            # Idle, it takes no processor time that other tests need.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none",
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "rabbitmq-env.conf"),
        }

    def _answers(self) -> bool:
        """Return whether it refuses an unknown protocol: it listens before it can do that."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as client:
            client.sendall(b"NONSENSE")
            return client.recv(16).startswith(b"AMQP")
        return False
