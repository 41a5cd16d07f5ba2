"""A PostgreSQL of a test run."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg import sql

from testkit.programs import MissingProgramError


@contextmanager
def postgresql_server() -> Iterator[PostgreSQL]:
    """Run a new PostgreSQL cluster that listens on a Unix socket only, and trusts everybody there.

    PostgreSQL refuses to run as root; it then runs as the user ``postgres`` of Debian's package.
    """
    binaries = _newest_binaries()
    user = "postgres" if os.geteuid() == 0 else None
    # A short path, for the socket; not among pytest's folders, which another user may not look into.
    with TemporaryDirectory(prefix="postgresql-") as directory:
        if user:
            shutil.chown(directory, user)
        server = PostgreSQL(Path(directory), binaries, user)
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()


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
    def role(self) -> str:
        """Its superuser."""
        return self.user or pwd.getpwuid(os.geteuid()).pw_name

    @property
    def environment(self) -> dict[str, str]:
        """What libpq needs in the environment to find it; there is a database ``postgres``."""
        return {"PGHOST": str(self.directory), "PGUSER": self.role}

    def url(self, database: str) -> str:
        """Return the URL of a database, as DATABASE_URL takes it."""
        return f"postgres://{self.role}@/{self.directory}/{database}"

    def initialise(self) -> None:
        """Make an empty cluster."""
        self.run("initdb", "--auth=trust", "--encoding=UTF8", "--no-sync", "--locale=C.UTF-8")

    def start(self, *, fsync: bool = False) -> None:
        """Start it and wait until it answers. Does nothing while it runs.

        Args:
            fsync: it waits for the disk; tests are faster without.
        """
        if self._runs():
            return
        options = f"-k {self.directory} -c listen_addresses= -c fsync={'on' if fsync else 'off'}"
        log = str(self.directory / "log")
        self.run("pg_ctl", "start", "--wait", "--silent", f"--options={options}", f"--log={log}")

    def stop(self) -> None:
        """Stop it, ending every session. Does nothing while it is stopped."""
        if self._runs():
            self.run("pg_ctl", "stop", "--wait", "--silent", "--mode=fast")

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

    def create(self, database: str, template: str = "template1") -> str:
        """Make a database, and return its URL.

        Args:
            database: its name.
            template: the name of another, which it is a copy of.
        """
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._execute(statement.format(sql.Identifier(database), sql.Identifier(template)))
        return self.url(database)

    def rename(self, database: str, name: str) -> None:
        """Give a database another name."""
        statement = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        self._execute(statement.format(sql.Identifier(database), sql.Identifier(name)))

    def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's programs on the cluster, which must succeed."""
        subprocess.run(
            [self.binaries / program, f"--pgdata={self.directory / 'data'}", *arguments],
            check=True,
            user=self.user,
            cwd=self.directory,  # its user may not be let into that of the tests
            stdout=subprocess.DEVNULL,
        )

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(host=str(self.directory), user=self.role, dbname="postgres", autocommit=True) as session:
            session.execute(statement)

    def _runs(self) -> bool:
        return (self.directory / "data" / "postmaster.pid").exists()


def _signal(process: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _newest_binaries() -> Path:
    """Return the directory of the newest PostgreSQL server; Debian keeps it off the PATH."""
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not versions:
        raise MissingProgramError("initdb", "postgresql")
    return max(versions, key=lambda path: int(path.parent.name))
