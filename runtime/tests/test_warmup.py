"""A web process has asked itself for pages before it takes its first request."""

from collections import Counter
from pathlib import Path

import pytest
import redis as redis_client
from environment import children, sessions
from listening import HOST, Waiting
from testkit.redis import Redis
from testkit.waiting import comes_true
from workers import record

VIEWS = """
import os, threading, time
from django.db import connection
from django.http import HttpResponse
from work.tasks import _record
def asked(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    whose = f"{os.getpid()} {threading.get_native_id()}"
    _record("asked", f"{whose} {request.get_host()} {request.META.get('HTTP_USER_AGENT')}")
    return HttpResponse("well")
def raises(request):
    raise LookupError("no such thing")
def hangs(request):
    time.sleep(600)
"""
WORKERS, THREADS = 2, 8
WARM = (
    *("--config=python:celeriac.web.warmup", "--log-level=info"),
    *(f"--workers={WORKERS}", f"--threads={THREADS}"),
)


@pytest.fixture
def pages(bare_environment: dict[str, str], project: Path) -> dict[str, str]:
    """The environment of a gunicorn with some pages; the broker is down."""
    with (project / "work" / "views.py").open("a") as module:
        module.write(VIEWS)
    with (project / "work" / "urls.py").open("a") as module:
        for view in ("asked", "raises", "hangs"):
            module.write(f"urlpatterns.append(path('{view}/', views.{view}))\n")
    with (project / "demo" / "settings.py").open("a") as module:
        module.write(f"ALLOWED_HOSTS = ['{HOST}']\nDATABASES['default']['CONN_MAX_AGE'] = 60\n")
    return {**bare_environment, "CELERIAC_HEALTH_HOST": HOST}


def test_each_thread_is_warm_before_its_first_request(
    pages: dict[str, str], on_postgresql: dict[str, str], redis: Redis, waiting: Waiting
) -> None:
    """With a session of the database, where the project keeps them; the process with the broker."""
    environment = {**pages, **on_postgresql, "CELERIAC_WARM_PATHS": "/asked/"}
    with (
        redis_client.Redis.from_url(redis.url) as onlooker,
        waiting.gunicorn(environment, *WARM) as process,
    ):
        first = onlooker.client_id()
        assert waiting.answer() == "HTTP/1.0 200 OK"

        def found() -> tuple[int, int, int]:
            clients = [each for each in onlooker.client_list() if int(each["id"]) > first]
            return len(record(environment)), sessions(environment), len(clients)

        # One thread more asks, to compile and import; it serves nobody.
        everything = (WORKERS * (THREADS + 1), WORKERS * THREADS, WORKERS)
        assert comes_true(lambda: found() == everything), found()
        workers = [str(each) for each in children(process.pid)]
    asked = record(environment)
    whose = Counter(tuple(line.split()[1:3]) for line in asked)
    assert sorted(worker for worker, _ in whose) == sorted((THREADS + 1) * workers)
    assert set(whose.values()) == {1}
    assert {line.split(maxsplit=3)[3] for line in asked} == {f"{HOST} celeriac"}


@pytest.mark.parametrize("path", ["/hangs/", "/raises/", "/gone/"])
def test_what_is_not_well_keeps_no_process_from_its_requests(
    pages: dict[str, str], waiting: Waiting, path: str
) -> None:
    """Nor does a broker that is down, as it is here."""
    with waiting.gunicorn({**pages, "CELERIAC_WARM_PATHS": path}, *WARM) as process:
        assert waiting.answer() == "HTTP/1.0 200 OK"
        process.terminate()
        output, _ = process.communicate(timeout=20)
    assert ("celeriac: not warm" in output) == (path != "/hangs/")
