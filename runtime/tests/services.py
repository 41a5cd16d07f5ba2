"""Real services for tests: each on a port or socket and in a directory of its own.

The computer's own services are never touched, and nothing is skipped: a program that is not
installed is an error, which names the package to install.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from testkit.ports import free_port

START_TIMEOUT_SECONDS = 20


@contextmanager
def redis_server(*, on_disk: bool = False) -> Iterator["Redis"]:
    """Run a redis-server on a free port of the loopback address.

    Args:
        on_disk: it keeps everything on disk, as that of a host does.
    """
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        server = Redis(Path(directory), free_port(), on_disk)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def postgresql_server() -> Iterator["PostgreSQL"]:
    """Run a new PostgreSQL cluster that listens on a Unix socket only, and trusts everybody there.

    PostgreSQL refuses to run as root; it then runs as the user ``postgres`` of Debian's package.
    """
    binaries = _postgresql_binaries()
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="postgresql-") as directory:
        if user:
            shutil.chown(directory, user)
        server = PostgreSQL(Path(directory), binaries, user)
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def rabbitmq_server() -> Iterator["RabbitMQ"]:
    """Run a RabbitMQ with nothing in it, on free ports of the loopback address."""
    with tempfile.TemporaryDirectory(prefix="rabbitmq-") as directory:
        server = RabbitMQ(Path(directory), free_port(), free_port(), free_port())
        try:
            server.start()
            yield server
        finally:
            server.stop()


@dataclass
class RabbitMQ:
    """A RabbitMQ of one test run.

    Attributes:
        directory: where it runs.
        port: where it listens, on 127.0.0.1.
        distribution_port: where other nodes of Erlang would find it.
        names_port: of the Erlang daemon that knows that, which otherwise stays for ever.
    """

    directory: Path
    port: int
    distribution_port: int
    names_port: int
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False)

    @property
    def url(self) -> str:
        """The URL of its virtual host ``/``, for Celery."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Start it and wait until it answers."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),  # of the cookie
            "ERL_EPMD_PORT": str(self.names_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "celeriac@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
        }
        # Not the program on the PATH, which goes over to the user of Debian's package.
        server = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        if not server.exists():
            raise RuntimeError(f"{server} is not installed: apt-get install rabbitmq-server")
        for program in (_program("epmd", "rabbitmq-server"), str(server)):
            self._processes.append(
                subprocess.Popen(
                    [program],
                    env=environment,
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
        _wait(lambda: _greets(self.port), f"rabbitmq-server on port {self.port}", 60)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it answer nothing until the block ends."""
        server = self._processes[-1].pid
        os.killpg(server, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(server, signal.SIGCONT)

    def stop(self) -> None:
        """Stop it at once."""
        for process in reversed(self._processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()


@dataclass
class Redis:
    """A redis-server of one test run.

    Attributes:
        directory: where it runs.
        port: where it listens, on 127.0.0.1; the same one over a restart.
        on_disk: whether it keeps anything over a restart.
    """

    directory: Path
    port: int
    on_disk: bool = False
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The URL of its first database, for Celery and for clients."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it answers. Does nothing while it runs."""
        if self._process is not None:
            return
        program = _program("redis-server", "redis-server")
        log = (self.directory / "log").open("ab")
        # With `everysec` a slow disk may keep two seconds from a server that is killed.
        kept = ["--appendonly", "yes" if self.on_disk else "no", "--appendfsync", "always"]
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *kept]
        self._process = subprocess.Popen(
            [program, *arguments, "--dir", str(self.directory)], stdout=log, stderr=log
        )
        _wait(lambda: _answers(self.port), f"redis-server on port {self.port}")

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


@dataclass
class PostgreSQL:
    """A PostgreSQL cluster of one test run.

    Attributes:
        directory: where its data and its socket are.
        binaries: where the server's programs are.
        user: who runs it; None for the user of the tests.
    """

    directory: Path
    binaries: Path
    user: str | None

    @property
    def environment(self) -> dict[str, str]:
        """What libpq needs in the environment to find it; there is a database ``postgres``."""
        user = self.user or pwd.getpwuid(os.geteuid()).pw_name
        return {"PGHOST": str(self.directory), "PGUSER": user}

    def initialise(self) -> None:
        """Make an empty cluster."""
        self._run("initdb", "--auth=trust", "--encoding=UTF8", "--no-sync", "--locale=C.UTF-8")

    def start(self, *, fsync: bool = False) -> None:
        """Start it and wait until it answers. Does nothing while it runs.

        Args:
            fsync: it waits for the disk; tests are faster without.
        """
        if self._runs():
            return
        options = f"-k {self.directory} -c listen_addresses= -c fsync={'on' if fsync else 'off'}"
        log = str(self.directory / "log")
        self._run("pg_ctl", "start", "--wait", "--silent", f"--options={options}", f"--log={log}")

    def stop(self) -> None:
        """Stop it, ending every session. Does nothing while it is stopped."""
        if self._runs():
            self._run("pg_ctl", "stop", "--wait", "--silent", "--mode=fast")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it and all its sessions answer nothing until the block ends."""
        server = int((self.directory / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(server, signal.SIGSTOP)  # the first: it makes the others
        sessions = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        processes = [server, *map(int, sessions)]
        try:
            for process in processes:
                _signal(process, signal.SIGSTOP)
            yield
        finally:
            for process in processes:
                _signal(process, signal.SIGCONT)

    def _runs(self) -> bool:
        return (self.directory / "data" / "postmaster.pid").exists()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.binaries / program, f"--pgdata={self.directory / 'data'}", *arguments],
            check=True,
            user=self.user,
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
        )


def _signal(process: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _program(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    if found is None:
        raise RuntimeError(f"{name} is not installed: apt-get install {package}")
    return found


def _postgresql_binaries() -> Path:
    """Return the directory of the newest PostgreSQL server; Debian keeps it off the PATH."""
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not versions:
        raise RuntimeError("initdb is not installed: apt-get install postgresql")
    return max(versions, key=lambda path: int(path.parent.name))


def _answers(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        if client.connect_ex(("127.0.0.1", port)) != 0:
            return False
        client.sendall(b"PING\r\n")
        return client.recv(16).startswith(b"+PONG")


def _greets(port: int) -> bool:
    """Return whether RabbitMQ refuses an unknown protocol: it listens before it can do that."""
    with socket.socket() as client:
        client.settimeout(1)
        if client.connect_ex(("127.0.0.1", port)) != 0:
            return False
        client.sendall(b"NONSENSE")
        return client.recv(16).startswith(b"AMQP")


def _wait(ready: Callable[[], bool], what: str, seconds: float = START_TIMEOUT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not start in {seconds} s")
        time.sleep(0.02)
