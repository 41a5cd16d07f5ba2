"""An ASGI application: its requests as those of WSGI, and websockets that outlive a deploy as long as was promised."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import django
import pytest
from environment import TOKEN, children, empty_database, sessions
from listening import AS_SYSTEMD, HOST, NO_CONTROL_SOCKET
from testkit.postgresql import PostgreSQL
from testkit.waiting import comes_true
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

VIEWS = """
import asyncio, os, threading, time
from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpResponse, StreamingHttpResponse
from work.tasks import _record
async def pid(request):
    return HttpResponse(f"{os.getpid()} {request.META['REMOTE_ADDR']} {request.scheme}")
async def slow(request):
    _record("slow", "begun")
    await asyncio.sleep(float(request.GET["seconds"]))
    return HttpResponse("slow")
def in_a_thread(request):
    time.sleep(float(request.GET["seconds"]))
    return HttpResponse("slow")
async def hangs(request):
    await asyncio.Event().wait()  # here it stands
def hangs_in_a_thread(request):
    while True:
        time.sleep(600)  # here it stands
async def blocks(request):
    time.sleep(600)  # here it stands
busy, most = 0, 0
async def counts(request):
    global busy, most
    busy += 1
    most = max(busy, most)
    await asyncio.sleep(0.2)
    busy -= 1
    return HttpResponse(str(most))
async def streams(request):
    async def parts():
        for number in range(12):
            await asyncio.sleep(1)
            yield str(number)
    return StreamingHttpResponse(parts())
async def broken(request):
    return HttpResponse("not well", status=503)
def read():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
def reads(request):
    read()
    return HttpResponse("read")
async def awaits(request):
    await sync_to_async(read)()
    return HttpResponse("read")
async def reads_and_fails(request):
    await sync_to_async(read)()
    raise ValueError
async def reads_in_a_stream(request):
    async def parts():
        await sync_to_async(read)()
        yield "read"
    return StreamingHttpResponse(parts())
async def leaves(request):
    await sync_to_async(read)()
    await asyncio.sleep(600)
"""
READING = ("reads", "awaits", "reads_and_fails", "reads_in_a_stream")
NAMES = (
    *("pid", "slow", "in_a_thread", "hangs", "hangs_in_a_thread", "blocks", "counts", "streams", "broken", "leaves"),
    *READING,
)
THREADS = 4
TIMEOUT_SECONDS = 8
# What a process says before it accepts; there is no broker here.
WARM = re.compile("celeriac: (?:not )?warm")
# What nginx says of the visitor.
HEADERS = {"Host": HOST, "X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}


class Release:
    """A gunicorn on a socket that it shares with others, as the unit of a release runs it.

    Attributes:
        process: gunicorn.
        log: the file that it writes to.
    """

    def __init__(self, listener: socket.socket, environment: dict[str, str], drain: int, workers: int) -> None:
        self.log = Path(environment["SCRATCH"]) / f"{time.monotonic_ns()}.log"
        number = listener.fileno()
        options = [
            *("--config=python:celeriac.web.warmup", "--preload", *NO_CONTROL_SOCKET, "--log-level=info"),
            *("--worker-class=celeriac.web.server.Worker", f"--workers={workers}", f"--threads={THREADS}"),
            *(f"--timeout={TIMEOUT_SECONDS}", f"--graceful-timeout={TIMEOUT_SECONDS + drain}"),
            *("--forwarded-allow-ips=*", "celeriac.web.asgi:application"),
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", AS_SYSTEMD, str(number), sys.executable, "-m", "gunicorn", *options],
                env=environment,
                pass_fds=[number],
                cwd=environment["SCRATCH"],
                stdout=log,
                stderr=log,
            )

    def said(self) -> str:
        """Return what it has written."""
        return self.log.read_text()

    def waits(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait for something; what it has written is shown where that does not come."""
        assert comes_true(lambda: bool(condition()), seconds), self.said()[-5000:]


class Site:
    """A socket, and the releases that are started on it.

    Attributes:
        environment: of a release.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port: int = self._listener.getsockname()[1]
        self._releases: list[Release] = []

    def start(self, drain: int = 0, workers: int = 1, **more: str) -> Release:
        """Start a release, and wait until it accepts."""
        release = Release(self._listener, {**self.environment, **more}, drain, workers)
        self._releases.append(release)
        release.waits(lambda: len(WARM.findall(release.said())) >= workers or release.process.poll())
        return release

    def ask(self, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Return status, release and text of an answer; 0 and nothing where none comes."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            client.request(method, path, headers={**HEADERS, **(headers or {})})
            answer = client.getresponse()
            return answer.status, answer.headers.get("X-Release", ""), answer.read().decode()
        except (http.client.HTTPException, OSError):
            return 0, "", ""
        finally:
            client.close()

    @contextmanager
    def websocket(self) -> Iterator[ClientConnection]:
        """Open a websocket; its handshake says which release that is with."""
        with connect(f"ws://127.0.0.1:{self.port}/", close_timeout=5) as opened:
            yield opened

    def close(self) -> None:
        """End all."""
        for release in self._releases:
            with suppress(OSError):  # it has ended
                for process in [*children(release.process.pid), release.process.pid]:
                    os.kill(process, signal.SIGKILL)
            release.process.wait()
        self._listener.close()


@pytest.fixture
def site(bare_environment: dict[str, str], project: Path) -> Iterator[Site]:
    """Nothing runs on it yet."""
    with (project / "work" / "views.py").open("a") as module:
        module.write(VIEWS)
    with (project / "work" / "urls.py").open("a") as module:
        for view in NAMES:
            module.write(f"urlpatterns.append(path('{view}/', views.{view}))\n")
    secure = 'SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")\n'
    with (project / "demo" / "settings.py").open("a") as module:
        module.write(f"ALLOWED_HOSTS = ['{HOST}']\n{secure}")
    application = {"CELERIAC_WSGI_APPLICATION": "", "CELERIAC_ASGI_APPLICATION": "demo.asgi:application"}
    site = Site({**bare_environment, **application, "CELERIAC_HEALTH_HOST": HOST})
    yield site
    site.close()


@contextmanager
def asking(site: Site, pause: float = 0.01) -> Iterator[list[tuple[int, str, str]]]:
    """Ask for a page again and again, beside all else; yields the answers."""
    answers: list[tuple[int, str, str]] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(pause):
            answers.append(site.ask("/pid/"))

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask) for _ in range(4)]
        try:
            yield answers
        finally:
            over.set()
    assert all(each.exception() is None for each in asked)


def repeats(websocket: ClientConnection, word: str) -> bool:
    """Say whether a websocket repeats a word."""
    websocket.send(word)
    return str(websocket.recv(20)).endswith(f" {word}")


def release_of(websocket: ClientConnection) -> str:
    """Return the release that a websocket is with."""
    assert websocket.response
    return websocket.response.headers["X-Release"]


def test_a_request_is_answered_as_by_wsgi(site: Site) -> None:
    """With the release in it, the visitor's address and scheme, and the pages that a deployment asks for."""
    site.start(CELERIAC_WARM_PATHS="/pid/")
    status, release, text = site.ask("/pid/")
    assert (status, release, text.split()[1:]) == (200, "0123456789ab", ["192.0.2.7", "https"])
    assert site.ask("/-/celeriac/status")[0] == 404
    status, release, text = site.ask("/-/celeriac/status", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (status, release, json.loads(text)["release"]) == (200, "0123456789ab", "0123456789ab")


def test_a_project_that_takes_the_socket_for_its_own_has_it_not(site: Site, project: Path) -> None:
    """As each that has daphne among its apps: twisted takes what systemd says of sockets out of the environment."""
    with (project / "demo" / "asgi.py").open("a") as module:
        module.write("\nimport os\nfor name in ('LISTEN_PID', 'LISTEN_FDS'):\n    del os.environ[name]\n")
    site.start()
    assert site.ask("/pid/")[0] == 200


@pytest.mark.parametrize(("path", "is_well"), [("/pid/", True), ("/broken/", False)])
def test_a_release_that_is_not_well_does_not_accept(site: Site, path: str, is_well: bool) -> None:
    release = site.start(CELERIAC_JUDGE="1", CELERIAC_HEALTH_PATH=path)
    assert (release.process.poll() is None) is is_well
    assert ("GET https://www.example.org/broken/: 503" in release.said()) is not is_well


def test_a_websocket_lives_through_a_deploy_for_as_long_as_it_was_promised(site: Site) -> None:
    old = site.start(drain=5, workers=2)
    with asking(site) as answers, site.websocket() as websocket:
        assert repeats(websocket, "before")
        assert release_of(websocket) == "0123456789ab"
        site.start(CELERIAC_RELEASE="ba9876543210", workers=2)
        began = time.monotonic()
        old.process.terminate()
        # It takes nothing new, and says nothing to those that it has.
        old.waits(lambda: {release for _, release, _ in answers[-20:]} == {"ba9876543210"})
        assert repeats(websocket, "meanwhile")
        with site.websocket() as another:
            assert release_of(another) == "ba9876543210"
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(60)
        lived = time.monotonic() - began
        old.waits(lambda: old.process.poll() is not None)
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1012
    assert lived >= 5
    assert {status for status, _, _ in answers} == {200}


def test_no_request_fails_in_many_deploys(site: Site) -> None:
    """What is accepted in the moment of the end is answered."""
    serving = site.start()
    with asking(site, pause=0) as answers:
        for number in range(4):
            new = site.start(CELERIAC_RELEASE=f"00000000000{number}")
            serving.process.terminate()
            serving.waits(lambda old=serving: old.process.poll() is not None)  # type: ignore[misc]
            serving = new
    assert len({release for _, release, _ in answers}) == 5
    assert {status for status, _, _ in answers} == {200}


def test_who_has_connected_may_still_ask(site: Site) -> None:
    """Nginx has, and its request is on its way."""
    release = site.start()
    with socket.create_connection(("127.0.0.1", site.port), timeout=60) as connection:
        assert site.ask("/pid/")[0] == 200  # the process has accepted what came before
        release.process.terminate()
        release.waits(lambda: "Handling signal: term" in release.said())
        time.sleep(1)
        connection.sendall(f"GET /pid/ HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        assert connection.makefile().readline().strip() == "HTTP/1.1 200 OK"


@pytest.mark.parametrize("view", ["slow", "in_a_thread"])
def test_a_page_that_was_begun_is_answered_at_the_end(site: Site, view: str) -> None:
    release = site.start()
    with ThreadPoolExecutor(1) as pool:
        page = pool.submit(site.ask, f"/{view}/?seconds=4")
        time.sleep(1)
        release.process.terminate()
        assert page.result(60)[2] == "slow"
    release.waits(lambda: release.process.poll() is not None)


@pytest.mark.parametrize("view", ["hangs", "hangs_in_a_thread"])
def test_a_view_that_hangs_ends_with_its_process(site: Site, view: str) -> None:
    """Which answers all others, and says where it stands."""
    release = site.start()
    first = site.ask("/pid/")[2].split()[0]
    with ThreadPoolExecutor(1) as pool, asking(site) as answers:
        hung = pool.submit(site.ask, f"/{view}/")
        release.waits(lambda: f"GET /{view}/ has not gone on for {TIMEOUT_SECONDS} s" in release.said())
        release.waits(lambda: answers[-1][2].split()[:1] not in ([], [first]))
        assert hung.result(60)[0] in (0, 500)
    assert "# here it stands" in release.said()
    assert {status for status, _, _ in answers} == {200}


def test_a_loop_that_stands_still_ends_with_its_process(site: Site) -> None:
    release = site.start()
    assert site.ask("/blocks/")[0] == 0
    assert comes_true(lambda: site.ask("/pid/")[0] == 200, 60)
    assert "Fatal Python error: Aborted" in release.said()
    assert "in blocks" in release.said()


def test_an_answer_that_goes_on_is_not_overdue(site: Site) -> None:
    release = site.start()
    assert site.ask("/streams/")[2] == "".join(str(number) for number in range(12))
    assert "has not gone on" not in release.said()


def test_a_process_has_as_many_requests_as_it_may_have(site: Site) -> None:
    """And streams, once they have begun, beside them."""
    site.start()
    with ThreadPoolExecutor(4 * THREADS) as pool:
        streams = [pool.submit(site.ask, "/streams/") for _ in range(THREADS)]
        time.sleep(1)
        counted = {each.result(60) for each in [pool.submit(site.ask, "/counts/") for _ in range(4 * THREADS)]}
        assert {status for status, _, _ in counted} == {200}
        assert max(int(text) for _, _, text in counted) == THREADS
        assert {each.result(60)[0] for each in streams} == {200}


@pytest.fixture
def reading(site: Site, project: Path, postgresql_of_the_run: PostgreSQL) -> Site:
    """A site whose connections to its database live on, as far as Django is asked."""
    with (project / "demo" / "settings.py").open("a") as module:
        module.write("DATABASES['default']['CONN_MAX_AGE'] = 600\n")
    site.environment.update(empty_database(postgresql_of_the_run, f"asgi_{time.monotonic_ns()}"))
    site.start()
    return site


@pytest.mark.parametrize("view", READING)
def test_a_request_takes_its_connection_to_the_database_with_it(reading: Site, view: str) -> None:
    """Its thread ends with it, so nobody could use the connection again."""
    for _ in range(5):
        assert reading.ask(f"/{view}/")[0] == (500 if view == "reads_and_fails" else 200)
        assert comes_true(lambda: sessions(reading.environment) == 0, 20)


@pytest.mark.skipif(django.VERSION < (5, 0), reason="a view does not learn that its visitor has left")
def test_one_whose_visitor_leaves_does_so_too(reading: Site) -> None:
    with socket.create_connection(("127.0.0.1", reading.port)) as visitor:
        visitor.sendall(f"GET /leaves/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert comes_true(lambda: sessions(reading.environment) == 1, 20)
    assert comes_true(lambda: sessions(reading.environment) == 0, 20)
