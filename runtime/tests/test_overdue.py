"""Views that hang do not stop the site: their process is replaced, and says where they stood."""

import http.client
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from supervised import Supervised, supervised
from testkit.ports import free_port
from testkit.waiting import comes_true

VIEWS = """
import os, time
from django.http import HttpResponse, StreamingHttpResponse
def pid(request):
    return HttpResponse(str(os.getpid()))
def hangs(request):
    while True:
        time.sleep(600)  # here it stands
def streams(request):
    def parts():
        for number in range(12):
            time.sleep(1)
            yield str(number)
    return StreamingHttpResponse(parts())
def hangs_later(request):
    def parts():
        yield "the first part"
        hangs(request)
    return StreamingHttpResponse(parts())
"""
THREADS = 4
# A streamed answer takes longer, and none of its parts.
TIMEOUT_SECONDS = 8


class Web:
    """A gunicorn of one process and some threads.

    Attributes:
        running: gunicorn.
        port: of it, on 127.0.0.1.
    """

    def __init__(self, running: Supervised, port: int) -> None:
        self.running = running
        self.port = port

    def get(self, path: str) -> str:
        """Return a page; nothing, where the connection ends before the answer has."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            client.request("GET", path)
            with suppress(http.client.HTTPException, ConnectionError):
                return client.getresponse().read().decode()
            return ""
        finally:
            client.close()

    def log(self) -> str:
        """Return what it has written."""
        return self.running.log.read_text()


@pytest.fixture
def web(bare_environment: dict[str, str], project: Path) -> Iterator[Web]:
    """It runs until the test ends."""
    with (project / "work" / "views.py").open("a") as module:
        module.write(VIEWS)
    with (project / "work" / "urls.py").open("a") as module:
        for view in ("pid", "hangs", "streams", "hangs_later"):
            module.write(f"urlpatterns.append(path('{view}/', views.{view}))\n")
    port = free_port()
    options = [
        *("--preload", "--config=python:celeriac.web.warmup"),
        *(f"--bind=127.0.0.1:{port}", "--workers=1", f"--threads={THREADS}"),
        f"--timeout={TIMEOUT_SECONDS}",
    ]
    command = [*options, "celeriac.web.wsgi:application"]
    with supervised("gunicorn", *command, environment=bare_environment) as running:
        running.told("READY=1")
        yield Web(running, port)


@contextmanager
def asking(web: Web, path: str, times: int) -> Iterator[list["Future[str]"]]:
    """Ask for a page several times at once, beside all else."""
    with ThreadPoolExecutor(times) as pool:
        yield [pool.submit(web.get, path) for _ in range(times)]


@pytest.mark.parametrize("path", ["/hangs/", "/hangs_later/"])
def test_views_that_hang_do_not_stop_the_site(web: Web, path: str) -> None:
    first = web.get("/pid/")
    with asking(web, path, THREADS) as hang:
        web.running.waits(lambda: web.log().count(f"GET {path} has not") == THREADS, "report")
        with asking(web, "/pid/", 3 * THREADS) as others:
            pids = {other.result(120) for other in others}
        assert "" not in pids
        assert {each.result(120) for each in hang} <= {"", "the first part"}
        assert comes_true(lambda: web.get("/pid/") not in {"", first}, 60)
    assert web.log().count("# here it stands") == THREADS


def test_what_waits_behind_them_is_answered(web: Web) -> None:
    """By the process that has accepted it: nobody else can."""
    first = web.get("/pid/")
    with asking(web, "/hangs/", THREADS) as hang:
        time.sleep(1)  # for them to have taken all threads
        with asking(web, "/pid/", 3 * THREADS) as behind:
            pids = {other.result(120) for other in behind}
        assert pids == {first}
        assert {each.result(120) for each in hang} == {""}


def test_an_answer_that_goes_on_is_not_overdue(web: Web) -> None:
    assert web.get("/streams/") == "".join(str(number) for number in range(12))
    assert "has not gone on" not in web.log()
