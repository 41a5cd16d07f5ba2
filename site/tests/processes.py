"""The site's processes, started as a person would, and what is needed to talk to them.

Nothing is mocked: the servers and processes are real, on ports and in folders of their own.
"""

import contextlib
import http.cookiejar
import json
import os
import signal
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

from testkit.redis import Redis
from testkit.waiting import eventually

SITE = Path(__file__).resolve().parent.parent
# Of Redis, which asks for one here as on a host; a URL has to quote it.
PASSWORD = "$ecret/with@signs:and%"


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
    return run_in(SITE, *command, **variables)


def run_in(project: Path, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Do the same in the folder of another project."""
    return subprocess.run(
        command,
        cwd=project,
        env=bare_environment(**variables),
        capture_output=True,
        text=True,
        timeout=600,  # it hangs: on a busy computer one that does not may take minutes
        check=False,
    )


def tail(log: Path) -> str:
    """Return the last lines of a file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:])


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process has ended; ask it to, where it has not."""
    if process.poll() is not None:
        return True
    process.terminate()
    return False


@dataclass
class Stack:
    """The site: web, worker and beat, with SQLite and Redis as on a developer's computer, or what variables say."""

    folder: Path
    redis: Redis
    url: str = ""
    migrated: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    project: Path = SITE
    _processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What is set for every process; all else is the default."""
        return {
            "DATABASE_URL": f"sqlite:///{self.folder / 'db.sqlite3'}",
            "REDIS_PORT": str(self.redis.port),
            "REDIS_PASSWORD": self.redis.password,
            **self.variables,
        }

    def manage(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `manage.py`; return what it said and its code."""
        return run_in(self.project, "python3", "manage.py", *arguments, **self.environment)

    def migrate(self) -> None:
        """Make the tables of its database, which takes two seconds of CPU: whoever wants them often, copies them."""
        migrate = self.manage("migrate", "-v0")
        assert migrate.returncode == 0, migrate.stderr

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

    def freeze_pool(self) -> None:
        """Stop the worker's own processes: what they execute does not end, and all else of the worker goes on."""
        worker = self._processes["worker"].pid
        for child in Path(f"/proc/{worker}/task/{worker}/children").read_text().split():
            os.kill(int(child), signal.SIGSTOP)

    def end(self, name: str) -> None:
        """Ask a process to end, and wait until it has."""
        process = self._processes.pop(name)
        process.terminate()
        if name == "beat":
            # Celery's own (a developer's; not ours on a host) loses one signal of 30 that come while it sends: what its
            # handler raises is ignored where Python ignores exceptions. Whoever typed Ctrl-C types it again.
            eventually(lambda: _has_ended(process), pause=3, what="beat ends")
        process.wait(60)

    def spawn(self, name: str, *command: str, **variables: str) -> None:
        """Start a process in the project's folder; its output goes to a file that `log` reads."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                command,
                cwd=self.project,
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
