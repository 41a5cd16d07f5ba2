"""The site's processes, started as a person would, and what is needed to talk to them.

Nothing is mocked: the servers and processes are real, on ports and in folders of their own.
"""

import contextlib
import http.cookiejar
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from redis import Redis
from testkit.ports import free_port
from testkit.waiting import eventually

SITE = Path(__file__).resolve().parent.parent


def bare_environment(**variables: str) -> dict[str, str]:
    """Return an environment with these variables, and otherwise only what finds the programs."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        **variables,
        # The runtime, in place of `pip3 install ../runtime`.
        "PYTHONPATH": ":".join([*filter(None, [variables.get("PYTHONPATH")]), str(SITE.parent / "runtime")]),
    }


def run(*command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in `site/` with only these variables set; return what it said and its code."""
    return subprocess.run(
        command,
        cwd=SITE,
        env=bare_environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def tail(log: Path) -> str:
    """Return the last lines of a file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:])


@dataclass
class RedisServer:
    """A Redis server of our own, with a password, that can be stopped and started again."""

    folder: Path
    password: str = "$ecret/with@signs:and%"
    port: int = field(default_factory=free_port)
    _process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it, with what it held before; return when it answers."""
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self.folder, "appendonly": "yes"}
        self._process = subprocess.Popen(
            [
                *("redis-server", "--save", "", "--requirepass", self.password),
                *(text for name, value in options.items() for text in (f"--{name}", str(value))),
            ],
            stdout=subprocess.DEVNULL,
        )
        eventually(self._answers, what="Redis answers")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)

    @property
    def environment(self) -> dict[str, str]:
        """What the site needs in its environment to use this server."""
        return {"REDIS_PORT": str(self.port), "REDIS_PASSWORD": self.password}

    def forget(self, database: int) -> None:
        """Empty one of its databases."""
        with Redis.from_url(self.url(database)) as client:
            client.flushdb()

    def url(self, database: int) -> str:
        """Return the URL of one of its databases: 0 and 1 are the site's own."""
        return f"redis://:{urllib.parse.quote(self.password, safe='')}@127.0.0.1:{self.port}/{database}"


@dataclass
class PostgreSQLServer:
    """A PostgreSQL cluster of our own, on a Unix socket only. It refuses to run as root, and is postgres then."""

    folder: Path
    _user: str | None = field(default_factory=lambda: "postgres" if os.geteuid() == 0 else None)

    def start(self) -> None:
        """Make it and start it; return when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._user:
            shutil.chown(self.folder, self._user)
        self._run("initdb", "--auth=trust", "--username=site", "--encoding=UTF8", "--no-sync", "--locale=C.UTF-8")
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off"
        self._run("pg_ctl", "start", "--wait", "--silent", f"--options={options}", f"--log={self.folder / 'log'}")

    def stop(self) -> None:
        """End it."""
        self._run("pg_ctl", "stop", "--wait", "--silent", "--mode=immediate")

    def create(self, database: str) -> str:
        """Make a database; return its URL, as DATABASE_URL takes it."""
        self._run("createdb", "-U", "site", database, data=False)
        return self.url(database)

    def rename(self, database: str, name: str) -> None:
        """Give a database another name."""
        self._run("psql", "-qU", "site", "-c", f"ALTER DATABASE {database} RENAME TO {name}", "postgres", data=False)

    def url(self, database: str) -> str:
        """Return the URL of a database, as DATABASE_URL takes it."""
        return f"postgres://site@/{self.folder}/{database}"

    def _run(self, program: str, *arguments: str, data: bool = True) -> None:
        versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
        if not versions:
            pytest.fail("PostgreSQL is not installed: apt install postgresql")
        newest = max(versions, key=lambda path: int(path.parent.name))
        where = [f"--pgdata={self.folder / 'data'}"] if data else [f"--host={self.folder}"]
        # Others may not look into the folders of a root that runs the tests, so it runs in its own.
        subprocess.run(
            [newest / program, *where, *arguments],
            check=True,
            user=self._user,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )


@dataclass
class RabbitMQServer:
    """A RabbitMQ of our own, with its own port mapper and cookie: nothing of it is shared or left behind."""

    folder: Path
    port: int = field(default_factory=free_port)
    _processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start(self) -> None:
        """Start it; return when it answers, which takes it some seconds."""
        program = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one on the PATH insists on an account
        if not program.exists():
            pytest.fail("rabbitmq-server is not installed: apt install rabbitmq-server")
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = bare_environment(
            HOME=str(self.folder),
            ERL_EPMD_PORT=str(free_port()),
            ERL_EPMD_ADDRESS="127.0.0.1",
            RABBITMQ_NODENAME=f"test{self.port}@localhost",
            RABBITMQ_NODE_IP_ADDRESS="127.0.0.1",
            RABBITMQ_NODE_PORT=str(self.port),
            RABBITMQ_DIST_PORT=str(free_port()),
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +sbwt none",
            RABBITMQ_MNESIA_BASE=str(self.folder / "mnesia"),
            RABBITMQ_LOG_BASE=str(self.folder / "log"),
            RABBITMQ_PID_FILE=str(self.folder / "pid"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(self.folder / "plugins"),
            RABBITMQ_CONFIG_FILE=str(self.folder / "rabbitmq"),
            RABBITMQ_CONF_ENV_FILE=str(self.folder / "rabbitmq-env.conf"),
        )
        for command in ("epmd", program):
            self._processes.append(
                subprocess.Popen([command], env=environment, stdout=subprocess.DEVNULL, cwd=self.folder)
            )
        eventually(self._answers, what="RabbitMQ answers")

    def stop(self) -> None:
        """End it."""
        for process in reversed(self._processes):
            process.terminate()
            process.wait(60)

    def forget(self, queue: str) -> None:
        """Delete a queue with what waits in it."""
        with Connection(self.url) as connection:
            channel: Any = connection.default_channel
            channel.queue_delete(queue)

    @property
    def url(self) -> str:
        """What to give to CELERY_BROKER_URL."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as client:
            client.sendall(b"AMQP\0\0\x09\x01")
            return bool(client.recv(1))
        return False


@dataclass
class Stack:
    """The site: web, worker and beat, with SQLite and Redis as on a developer's computer, or what variables say."""

    folder: Path
    redis: RedisServer
    url: str = ""
    migrated: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    _processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What is set for every process; all else is the default."""
        return {
            "DATABASE_URL": f"sqlite:///{self.folder / 'db.sqlite3'}",
            **self.redis.environment,
            **self.variables,
        }

    def manage(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `manage.py`; return what it said and its code."""
        return run("python3", "manage.py", *arguments, **self.environment)

    def ask(self, code: str) -> Any:
        """Return what a Python program inside the project prints as its last line, as JSON."""
        done = self.manage("shell", "-v0", "-c", code)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def start_worker(self, *options: str) -> None:
        """Start a worker, and wait until it consumes."""
        self.spawn("worker", "celery", "-A", "TimeOut", "worker", "--loglevel=info", *options)
        eventually(lambda: " ready." in self.log("worker"), what="the worker is ready")

    def kill(self, name: str) -> None:
        """Kill a process with its children, as a power cut would."""
        process = self._processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)

    def end(self, name: str) -> None:
        """Ask a process to end, and wait until it has."""
        process = self._processes.pop(name)
        process.terminate()
        process.wait(60)

    def spawn(self, name: str, *command: str, **variables: str) -> None:
        """Start a process in `site/`; its output goes to a file that `log` reads."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                command,
                cwd=SITE,
                env=bare_environment(**{**self.environment, **variables}),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End all processes, children too; the pool of a worker is in its group."""
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)

    def log(self, name: str) -> str:
        """Return what a process has said so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query to the stack's database."""
        with contextlib.closing(sqlite3.connect(self.folder / "db.sqlite3", timeout=20)) as db:
            return db.execute(sql, values).fetchall()

    def succeeded(self, task_id: str) -> bool:
        """Say whether the database has a successful result of this task."""
        rows = self.query("select status from django_celery_results_taskresult where task_id = ?", task_id)
        return rows == [("SUCCESS",)]


@dataclass
class Answer:
    """An answer of the web server."""

    status: int
    headers: Any
    text: str
    seconds: float

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.text)


class Visitor:
    """Someone at a browser: keeps cookies, follows nothing."""

    def __init__(self, url: str) -> None:
        """Take the address of the site."""
        self.url = url
        self.cookies = http.cookiejar.CookieJar()
        self.headers: dict[str, str] = {}
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies), _NoRedirect)

    def ask(self, path: str, form: dict[str, Any] | None = None) -> Answer:
        """GET a path, or POST a form to it with the CSRF token that a page would have carried."""
        data = None
        if form is not None:
            token = next((c.value for c in self.cookies if c.name == "csrftoken"), "")
            data = urllib.parse.urlencode({"csrfmiddlewaretoken": token, **form}).encode()
        start = time.monotonic()
        try:
            request = urllib.request.Request(self.url + path, data, self.headers)
            response = self._opener.open(request, timeout=30)
        except urllib.error.HTTPError as error:
            response = error  # an answer too
        with response:
            text = response.read().decode()
        return Answer(response.status, response.headers, text, time.monotonic() - start)

    def log_in(self) -> None:
        """Become `anna`, through the admin's form."""
        self.ask("/admin/login/")
        answer = self.ask("/admin/login/", {"username": "anna", "password": "correct horse"})
        assert answer.status == 302, answer.text


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


HOST_SECRET_KEY = "kP3v9-xQ7mZr2Lw8sTn5Yb1Hd6Jf4Gc0Aa_eRuViBoNyMzXqWtKpSl"


def host_environment(static_root: Path, **variables: str) -> dict[str, str]:
    """Return the environment that a host gives the site; variables replace or add to it."""
    return {
        "SECRET_KEY": HOST_SECRET_KEY,
        "DEBUG": "false",
        "ALLOWED_HOSTS": "site.example.org,localhost",
        "CSRF_TRUSTED_ORIGINS": "https://site.example.org",
        "STATIC_ROOT": str(static_root),
        "DATABASE_URL": "postgres:///site",
        "TIME_ZONE": "Europe/Berlin",
        **variables,
    }
