"""What "the site works" means: questions to its processes, from the outside."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from ansible_collections.celeriac.site.plugins.module_utils.site_build import static_files
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import HopelessError, UnhealthyError
from ansible_collections.celeriac.site.plugins.module_utils.site_kinds import (
    BEAT,
    COMMAND,
    OVERLAPPING_COMMAND,
    TIMER,
    WORKER,
    Kind,
)
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Site
from ansible_collections.celeriac.site.plugins.module_utils.site_processes import ENDED, fact_of, process_of
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Systemd, parse_timestamp

T = TypeVar("T")

PAUSE_SECONDS = 0.1
ANSWER_SECONDS = 10
# While two releases accept and consume, a request and a ping go to either: of so many one will hit.
REQUESTS_AT_ONCE = 5
PINGS_AT_ONCE = 3
PING_PAUSE_SECONDS = 0.2
# How many pings may stay without an answer before the workers are asked whether they are busy.
PATIENT_PINGS = 20
# What a beat says that sends nothing, for another one does (runtime/celeriac/beat/status.py).
STANDBY = "standby, another beat holds the lease"


@dataclass(frozen=True)
class Reply:
    """What came back over HTTP."""

    status: int
    release: str
    body: bytes


class Client:
    """An HTTP client of the site; each kind goes another way."""

    def connection(self) -> http.client.HTTPConnection:
        """Return an open connection."""
        raise NotImplementedError

    def headers(self) -> dict[str, str]:
        """Return what each request carries."""
        return {}

    def request(self, method: str, path: str, headers: dict[str, str] | None = None) -> Reply:
        """Return what is answered.

        Raises:
            UnhealthyError: there was no answer.
        """
        try:
            connection = self.connection()
            try:
                connection.request(method, path, headers={**self.headers(), **(headers or {})})
                response = connection.getresponse()
                return Reply(response.status, response.headers.get("X-Release", ""), response.read())
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise UnhealthyError(f"{method} {path}: no answer: {error}") from error

    def expect(self, status: int, method: str, path: str, headers: dict[str, str] | None = None) -> Reply:
        """Return an answer that must have this status.

        Raises:
            UnhealthyError: it has another one.
        """
        reply = self.request(method, path, headers)
        if reply.status != status:
            text = reply.body[:500].decode(errors="replace")
            raise UnhealthyError(f"{method} {path}: {reply.status} where {status} is right: {text}")
        return reply


class Nginx(Client):
    """HTTPS to the site, by its name, wherever that name points today.

    Args:
        domain: the name.
        address: where nginx is.
        ca_file: certificates to trust beside the host's, None for no others.
        headers: what each request carries, as it takes to get through a maintenance.
    """

    def __init__(
        self, domain: str, address: str, ca_file: str | None, headers: Mapping[str, str] | None = None
    ) -> None:
        self._domain, self._address, self._headers = domain, address, dict(headers or {})
        self._context = ssl.create_default_context()
        if ca_file:
            self._context.load_verify_locations(ca_file)
            # The certificate of the site itself is enough; the host need not know who signed it.
            self._context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection to nginx."""
        connection = http.client.HTTPSConnection(self._domain, timeout=ANSWER_SECONDS)
        plain = socket.create_connection((self._address, 443), timeout=ANSWER_SECONDS)
        connection.sock = self._context.wrap_socket(plain, server_hostname=self._domain)
        return connection

    def headers(self) -> dict[str, str]:
        """Return what opens the site."""
        return self._headers


class Socket(Client):
    """A socket of the site, as nginx uses it: what answers is a process of the site itself.

    Args:
        path: the socket.
        domain: the name of the site.
    """

    def __init__(self, path: Path, domain: str) -> None:
        self._path, self._domain = path, domain

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection to whichever release accepts it."""
        connection = http.client.HTTPConnection(self._domain, timeout=ANSWER_SECONDS)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(ANSWER_SECONDS)
        connection.sock.connect(str(self._path))
        return connection

    def headers(self) -> dict[str, str]:
        """Return what nginx would say."""
        return {"Host": self._domain, "X-Forwarded-Proto": "https", "X-Forwarded-For": "127.0.0.1"}


class Deadline:
    """How long to wait for answers to become the right ones.

    Args:
        seconds: from now on.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def eventually(self, probe: Callable[[], T]) -> T:
        """Return what the probe returns once it raises `UnhealthyError` no more.

        Raises:
            UnhealthyError: it still did at the deadline, or has raised `HopelessError`.
        """
        while True:
            try:
                return probe()
            except HopelessError:
                raise
            except UnhealthyError:
                if time.monotonic() > self._end:
                    raise
                time.sleep(PAUSE_SECONDS)


class Checks:
    """One method a check. Each returns what it saw, or raises `UnhealthyError`.

    Args:
        systemd: systemctl.
        web: the way to the web processes.
        monitor: the way to the monitor.
        release: the release that should serve.
        site: what is known about it.
        units: its units on this host, by kind. Each of them has to work.
    """

    def __init__(
        self,
        systemd: Systemd,
        web: Client,
        monitor: Client,
        release: str,
        site: Site,
        units: Mapping[Kind, Sequence[str]],
    ) -> None:
        self._systemd, self._web, self._monitor = systemd, web, monitor
        self._release, self._site, self._units = release, site, units
        self._bearer = bearer(site)
        self._pings: list[str] = []  # that have no answer yet,
        self._sent = 0  # of so many,
        self._answered_by: dict[str, str] = {}  # and which release each node is of that answered others
        self._pinged = 0.0  # time.monotonic()

    def page(self) -> str:
        """The project says that it is well, in the right release."""
        found = ""
        for _ in range(REQUESTS_AT_ONCE):
            found = self._answering()
            if found == self._release:
                return f"{self._site.health_path} answers 200 from release {self._release}"
        raise UnhealthyError(f"release {found or 'without a name'} serves, not {self._release}")

    def page_alone(self) -> str:
        """No other release answers any more."""
        for _ in range(REQUESTS_AT_ONCE):
            if (found := self._answering()) != self._release:
                raise UnhealthyError(f"release {found or 'without a name'} still serves, not {self._release} alone")
        return self.page()

    def static_file(self) -> str:
        """A static file of the release is served as it is there: without it every page may be without its styles."""
        folder = self._site.root / "releases" / self._release / "static"
        file = min(static_files(folder), key=lambda path: path.stat().st_size, default=None)
        if file is None:
            return "the release has no static files"
        path = f"{self._site.static_url}{quote(str(file.relative_to(folder)))}"
        if self._web.expect(200, "GET", path).body != file.read_bytes():
            raise UnhealthyError(f"GET {path}: not what release {self._release} has under this name")
        return f"{path} is served"

    def _answering(self) -> str:
        """Return the release that answers one request, which must say that the project is well."""
        return self._web.expect(200, "GET", self._site.health_path).release

    def migrations(self) -> str:
        """The migrations of the release are applied."""
        reply = self._web.expect(200, "GET", "/-/celeriac/status", self._bearer)
        if reply.release != self._release:
            raise UnhealthyError(f"release {reply.release} serves, not {self._release}")
        if unapplied := json.loads(reply.body)["unapplied_migrations"]:
            raise UnhealthyError(f"not applied: migrations {', '.join(unapplied)}")
        return "all migrations are applied"

    def applied(self) -> set[str]:
        """Return the migrations that the database has, as whatever release answers sees them."""
        found = json.loads(self._web.expect(200, "GET", "/-/celeriac/status", self._bearer).body)
        if "applied_migrations" not in found:
            raise UnhealthyError("what serves does not tell which migrations are applied")
        return set(found["applied_migrations"])

    def worker(self) -> str:
        """Workers of the release execute tasks, and each of this host does or answers.

        A ping that is enqueued over HTTP is the proof. Behind a long queue it would have to wait: a
        worker that is busy, or was, is proof as well. One of a pool gets pings in its own queue.
        """
        self._ping()
        working = self._pongs()
        silent = self._units_without(working)
        if (silent or not working) and self._sent > PATIENT_PINGS:
            workers = self.workers()
            working |= {
                name: f"{name} has executed {tasks['executed']} tasks and runs {tasks['active']}"
                for name, tasks in workers.items()
                if tasks["active"] + tasks["executed"] > 0
            }
            # A process that runs tasks itself answers nothing meanwhile: it says to systemd what it runs.
            silent = [unit for unit in self._units_without(workers) if not self._says_to_run(unit)]
        if not working:
            others = ", ".join(sorted({*self._answered_by.values()})) or "nobody"
            raise UnhealthyError(
                f"celeriac.ping was enqueued {self._sent} times, but no worker of {self._release} executed one: "
                f"of {self._sent - len(self._pings)} answers all are from {others}"
            )
        if silent:
            raise UnhealthyError(f"{', '.join(silent)} executed no celeriac.ping, and did not answer")
        return "; ".join(working.values())

    def _ping(self) -> None:
        if time.monotonic() - self._pinged > PING_PAUSE_SECONDS:
            queues = {fact_of(unit, "Queue") for unit in self._units.get(WORKER, ())} | {""}
            addresses = [f"/-/celeriac/ping?queue={quote(queue)}" if queue else "/-/celeriac/ping" for queue in queues]
            for content in self._asked(202, "POST", sorted(addresses) * PINGS_AT_ONCE).values():
                self._pings += [answer["id"] for answer in content]
                self._sent += len(content)
            self._pinged = time.monotonic()

    def _pongs(self) -> dict[str, str]:
        """Return of the workers of the release that have executed a ping what to say."""
        answers = self._asked(200, "GET", [f"/-/celeriac/ping/{ping}" for ping in self._pings])
        for address, (answer, *_) in answers.items():
            ping = address.rpartition("/")[2]
            if answer["state"] == "SUCCESS":
                # Asked once more, each of the many that another release has executed would delay the next ping.
                self._pings.remove(ping)
                self._answered_by[answer["result"]["hostname"]] = answer["result"]["release"]
        return {
            name: f"celeriac.ping was executed by {name}"
            for name, release in self._answered_by.items()
            if release == self._release
        }

    def _asked(self, status: int, method: str, addresses: Iterable[str]) -> dict[str, list[Any]]:
        """Return what these addresses answer, each as often as it is asked.

        The old processes answer as well, and theirs may be a broker that is gone: one answer is enough.

        Raises:
            UnhealthyError: none was right.
        """
        found: dict[str, list[Any]] = {}
        wrong = None
        for address in addresses:
            try:
                reply = self._web.expect(status, method, address, self._bearer)
            except UnhealthyError as error:
                wrong = error
            else:
                found.setdefault(address, []).append(json.loads(reply.body))
        if wrong and not found:
            raise wrong
        return found

    def _says_to_run(self, unit: str) -> bool:
        return self._systemd.properties(unit, "StatusText").get("StatusText", "").startswith("runs ")

    def workers(self) -> dict[str, Any]:
        """Return what the workers of the release say of themselves."""
        said = json.loads(self._web.expect(200, "GET", "/-/celeriac/workers", self._bearer).body)["workers"]
        return {name: tasks for name, tasks in said.items() if f"-{self._release}" in name}

    def _units_without(self, workers: Collection[str]) -> list[str]:
        """Return the units of this host that are not among these workers, whose names begin with that of their unit."""
        names = {name.partition("@")[0] for name in workers}
        return [unit for unit in self._units.get(WORKER, ()) if unit.removesuffix(".service") not in names]

    def beat(self) -> str:
        """Each beat ticked a moment ago, or stands by while one on another host sends."""
        said = []
        for unit in self._units.get(BEAT, ()):
            text = self._systemd.properties(unit, "StatusText").get("StatusText", "")
            if self._site.beat_hosts > 1 and text == STANDBY:
                said.append(f"{unit}: {text}")
                continue
            tick = re.match(r"last tick (\d+)", text)
            if not tick or time.time() - int(tick[1]) > self._site.beat_seconds:
                raise UnhealthyError(f"{unit} does not tick: {text or 'it has not said anything'}")
            said.append(f"{unit}: {text}")
        return "; ".join(said)

    def command(self) -> str:
        """Each command is still there some seconds after its start: one that ends again and again is not."""
        return self._commands(COMMAND, OVERLAPPING_COMMAND)

    def overlapping_command(self) -> str:
        """So is each that has been started beside the one that serves."""
        return self._commands(OVERLAPPING_COMMAND)

    def _commands(self, *kinds: Kind) -> str:
        said = []
        for unit in [unit for kind in kinds for unit in self._units.get(kind, ())]:
            shown = self._systemd.properties(unit, "ActiveState", "ActiveEnterTimestamp", "NRestarts")
            state, restarts = shown["ActiveState"], int(shown.get("NRestarts") or 0)
            since = parse_timestamp(shown["ActiveEnterTimestamp"])
            settle = int(fact_of(unit, "Settle") or 0)
            if state in ENDED:
                raise HopelessError(f"{unit} started, and has ended.\n{self._systemd.last_words(unit)}")
            if state != "active" or not since or (datetime.now(UTC) - since).total_seconds() < settle:
                again = (
                    f", it was started {restarts} times again:\n{self._systemd.last_words(unit)}" if restarts else ""
                )
                raise UnhealthyError(f"{unit} did not run for {settle} s without an end yet{again}")
            said.append(f"{unit} runs since {since:%FT%TZ}")
        return "; ".join(said)

    def timer(self) -> str:
        """Each timer waits for its time, or its command runs, and the last run of the release did not fail."""
        said = []
        for unit in self._units.get(TIMER, ()):
            timer = f"{process_of(unit)}.timer"
            if (state := self._systemd.state(timer)) != "active":
                raise UnhealthyError(f"{timer} is {state}: nothing starts {unit}")
            shown = self._systemd.properties(unit, "ActiveState", "Result", "InactiveEnterTimestamp")
            if shown["ActiveState"] == "failed":
                ended = f"({shown['Result']}) at {shown['InactiveEnterTimestamp']}"
                raise HopelessError(f"the last run of {unit} has failed {ended}\n{self._systemd.last_words(unit, 10)}")
            said.append(f"{timer} waits" if shown["ActiveState"] == "inactive" else f"{unit} runs")
        return "; ".join(said)

    def monitor(self) -> str:
        """Flower sees the worker of the release, and shows nothing to a stranger."""
        for path in ("/flower/", "/flower/api/workers"):
            self._monitor.expect(401, "GET", path)
        workers = json.loads(self._monitor.expect(200, "GET", "/flower/api/workers?status=true", self._login()).body)
        alive = [name for name, is_alive in workers.items() if is_alive]
        if not any(f"-{self._release}" in name for name in alive):
            raise UnhealthyError(f"Flower does not see the worker of {self._release}, but {alive or 'none'}")
        return f"Flower lists {', '.join(alive)} and refuses strangers"

    def monitor_closed(self) -> str:
        """What Flower itself leaves open, nginx closes."""
        for path in ("/flower/metrics", "/flower/healthcheck"):
            self._monitor.expect(401, "GET", path)
        return "Flower's open pages are closed"

    def _login(self) -> dict[str, str]:
        login = f"{self._site.monitor_username}:{self._site.monitor_password}"
        return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def bearer(site: Site) -> dict[str, str]:
    """Return the header that opens the runtime's own pages."""
    return {"Authorization": f"Bearer {site.token}"}
