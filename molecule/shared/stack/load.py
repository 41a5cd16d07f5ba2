"""A steady load on a deployed site: requests and tasks that arrive at a fixed rate, whatever the site does.

An open loop: a request is due when its time has come, not when the one before was answered, and its
latency is counted from when it was due. So a site that stands still for a second shows as forty slow
requests and not as one. (A closed loop would wait with it, and not notice: "coordinated omission".)

The load is made by a process of its own, ``python -m stack.load``, so that what a test computes does not
delay it. It keeps its connections open, like browsers do, and writes one line an answer. It ends when
`Plan.seconds` are over, and when the process that started it ends or closes its standard input.
"""

from __future__ import annotations

import http.client
import itertools
import json
import math
import os
import re
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from testkit.waiting import eventually

ANSWER_SECONDS = 30.0
# Also where a page has no quotes that it does not need.
ASSETS = re.compile(r'(?:href|src)="?(/static/[^"\s>]+)')
# Requests a second of people, where a test wants somebody there all the time, and no crowd. Each costs 9 ms of a
# processor that all other tests want too, a task 29 ms, for as long as these take.
PEOPLE = 5.0
# What is right, by what was asked for.
RIGHT = {"page": 200, "asset": 200, "task": 202}


@dataclass(frozen=True)
class Plan:
    """What is to arrive.

    Attributes:
        domain: name of the site.
        address: where that name would point.
        certificate: what the browsers trust, PEM; empty for whatever the site shows.
        token: bearer token of the address that takes tasks.
        requests: per second; every other one is the page, the others are assets of pages that came before.
        tasks: per second; each is sent by a request to the site.
        seconds: after this time the load ends by itself.
        task_path: the address that takes tasks: it answers 202 with ``{"id": …}``.
        page_path: the address of the page.
        connections: open at the same time, for requests; half as many for tasks.
        releases: how many of them, the youngest, have assets that are still asked for: `site_releases_kept`.
        again: a page or an asset is asked for again, once, where the site had closed a connection between two requests,
            as it may (RFC 9112, 9.3.1): nginx does when it reads its files again. Browsers do it too.
    """

    domain: str
    address: str
    certificate: str
    token: str
    requests: float = 40
    tasks: float = 20
    seconds: float = 900
    task_path: str = "/-/celeriac/ping"
    page_path: str = "/"
    connections: int = 24
    releases: int = 5
    again: bool = False


@dataclass(frozen=True)
class Answer:
    """What became of one request.

    Attributes:
        kind: "page", "asset" or "task".
        due: when it was due, Unix time in seconds.
        seconds: from then until the end of the answer.
        status: of HTTP; 0 where no answer came.
        release: `X-Release`; empty where nginx answered by itself.
        task: id of the task that was accepted.
        problem: the path, and what went wrong; empty where all is well.
    """

    kind: str
    due: float
    seconds: float
    status: int
    release: str
    task: str
    problem: str


def percentile(answers: Iterable[Answer], percent: float) -> float:
    """Return the latency in seconds that so many percent of the answers do not exceed (nearest rank)."""
    latencies = sorted(answer.seconds for answer in answers)
    assert latencies, "there are no answers to take a percentile of"
    return latencies[max(0, math.ceil(len(latencies) * percent / 100) - 1)]


def failures(answers: Iterable[Answer]) -> list[str]:
    """Return a line for every request that was not answered as it should."""
    return [f"{clock(answer.due)} {answer.problem}" for answer in answers if answer.problem]


def clock(at: float) -> str:
    """Return a Unix time as journals of a host in UTC show it, with tenths of a second."""
    return f"{time.strftime('%T', time.gmtime(at))}.{int(at * 10) % 10}"


class Load:
    """A load that runs beside the test; a context manager that ends it.

    Args:
        plan: what is to arrive.
        file: where the answers are written.
    """

    def __init__(self, plan: Plan, file: Path) -> None:
        self.plan = plan
        self._file = file

    def __enter__(self) -> Load:
        """Start it, and wait for the first answer."""
        with self._file.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stack.load"],
                env={**os.environ, "PYTHONPATH": ":".join(str(Path(__file__).resolve().parents[n]) for n in (1, 3))},
                stdin=subprocess.PIPE,
                stdout=output,
                text=True,
            )
        assert self._process.stdin
        # The token goes this way: a command line can be read by everybody.
        self._process.stdin.write(json.dumps(asdict(self.plan)) + "\n")
        self._process.stdin.flush()
        try:
            eventually(self.answers, ANSWER_SECONDS)
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, if it has not been ended."""
        self.stop()

    def stop(self) -> None:
        """Let no more requests arrive, and wait for the answers to those that did."""
        assert self._process.stdin
        self._process.stdin.close()
        assert self._process.wait(2 * ANSWER_SECONDS) == 0, f"the load has ended with {self._process.returncode}"

    def answers(self, since: float = 0, until: float = math.inf) -> list[Answer]:
        """Return the answers to the requests that were due in a window of time (Unix time), those that came."""
        lines = self._file.read_text().split("\n")[:-1]  # the last one may be half written
        found = [Answer(*json.loads(line)) for line in lines[1:]]
        return [answer for answer in found if since <= answer.due <= until]

    def settled(self, since: float, until: float) -> list[Answer]:
        """Return the answers to all requests of a window that has passed, when the last of them is there."""
        start = float(self._file.read_text().partition("\n")[0])
        rates = [rate for rate in (self.plan.requests, self.plan.tasks) if rate]
        # The n-th request of a stream, counted from 0, is due n / rate seconds after the start.
        due = sum(math.floor((until - start) * rate) + 1 for rate in rates)
        eventually(lambda: len(self.answers(until=until)) >= due, 2 * ANSWER_SECONDS)
        return self.answers(since, until)

    def accepted(self) -> set[str]:
        """Return the ids of the tasks that the site has accepted so far."""
        return {answer.task for answer in self.answers() if answer.task}


# ---- The process that makes the load


class Browser:
    """One connection that is kept open, and opened again when it was closed."""

    def __init__(self, plan: Plan, context: ssl.SSLContext) -> None:
        self._plan = plan
        self._context = context
        self._connection = http.client.HTTPSConnection(plan.domain)

    def send(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str, str]:
        """Send a request; return status, release and body.

        Raises:
            OSError, http.client.HTTPException: there is no answer.
        """
        kept_open = self._connection.sock is not None
        try:
            return self._send(method, path, headers)
        # The three ways in which a connection is found closed before the first byte of an answer.
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            if not (self._plan.again and kept_open and method == "GET"):
                raise
            return self._send(method, path, headers)

    def _send(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str, str]:
        if self._connection.sock is None:
            plain = socket.create_connection((self._plan.address, 443), timeout=ANSWER_SECONDS)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection.sock = self._context.wrap_socket(plain, server_hostname=self._plan.domain)
        try:
            self._connection.request(method, path, headers=headers)
            response = self._connection.getresponse()
            return response.status, response.headers.get("X-Release", ""), response.read().decode(errors="replace")
        except BaseException:
            self._connection.close()
            raise


class Generator:
    """Sends what is due, from as many threads as there are connections, and prints the answers."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._context = ssl.create_default_context(cadata=plan.certificate or None)
        if not plan.certificate:
            self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE
        self._assets: dict[str, list[str]] = {}  # by release, the one whose page came last at the end
        self._over = threading.Event()
        self._printing, self._knowing = threading.Lock(), threading.Lock()
        # Durations by the clock that nobody sets, points in time by the one that the host has too.
        self._begin = time.monotonic()
        self._start = time.time()

    def run(self) -> None:
        """Send until standard input ends, or the time of the plan is over."""
        print(self._start, flush=True)
        plan = self._plan
        streams = {
            "page": (plan.requests, plan.connections, itertools.count()),
            "task": (plan.tasks, plan.connections // 2, itertools.count()),
        }
        threads = [
            threading.Thread(target=self._work, args=(kind, rate, numbers))
            for kind, (rate, connections, numbers) in streams.items()
            for _ in range(connections if rate else 0)
        ]
        for thread in threads:
            thread.start()
        try:
            select.select([sys.stdin], [], [], plan.seconds)
        finally:  # also where somebody at the keyboard ends everything
            ended = time.monotonic() - self._begin
            self._over.set()
        for thread in threads:
            thread.join()
        # What was due while every connection waited for an answer has got none.
        for kind, (rate, _, numbers) in streams.items():
            for number in numbers:
                if number >= ended * rate:
                    break
                self._print(Answer(kind, self._start + number / rate, 0, 0, "", "", f"{kind}: it was never sent"))

    def _work(self, kind: str, rate: float, numbers: Iterator[int]) -> None:
        browser = Browser(self._plan, self._context)
        while not self._over.is_set():
            # One step of `count` is one step of the interpreter: no two threads get the same number.
            number = next(numbers)
            after = number / rate
            if self._over.wait(max(0.0, self._begin + after - time.monotonic())):
                return
            if kind == "task":
                answer = self._answer(browser, kind, after, self._plan.task_path)
            elif number % 2 and (known := self._known_assets()):
                answer = self._answer(browser, "asset", after, known[number // 2 % len(known)])
            else:
                answer = self._answer(browser, "page", after, self._plan.page_path)
            self._print(answer)

    def _know_assets(self, release: str, page: str) -> None:
        with self._knowing:
            self._assets.pop(release, None)
            self._assets[release] = ASSETS.findall(page)

    def _known_assets(self) -> list[str]:
        with self._knowing:
            youngest = list(self._assets.values())[-self._plan.releases :]
        return sorted({path for paths in youngest for path in paths})

    def _answer(self, browser: Browser, kind: str, after: float, path: str) -> Answer:
        """Send one request that was due so many seconds after the start."""
        method, headers = "GET", {}
        if kind == "task":
            method, headers = "POST", {"Authorization": f"Bearer {self._plan.token}"}
        status, release, task, problem = 0, "", "", ""
        try:
            status, release, body = browser.send(method, path, headers)
            if status != RIGHT[kind]:
                problem = " ".join(f"{path}: {status}: {body[:200]}".split())
            elif kind == "task":
                task = str(json.loads(body)["id"])
            elif kind == "page":
                self._know_assets(release, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = f"{path}: {type(error).__name__}: {error}"
        seconds = time.monotonic() - self._begin - after
        return Answer(kind, self._start + after, seconds, status, release, task, problem)

    def _print(self, answer: Answer) -> None:
        line = json.dumps(list(asdict(answer).values()))
        with self._printing:
            print(line, flush=True)


if __name__ == "__main__":
    Generator(Plan(**json.loads(sys.stdin.readline()))).run()
