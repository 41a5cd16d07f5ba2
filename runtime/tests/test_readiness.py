"""The readiness check of a release, before it can accept: real gunicorn, on a socket that it inherits."""

import os
from pathlib import Path

import pytest
import redis as redis_client
from environment import sessions
from listening import HOST, Waiting
from testkit.redis import Redis

# The answer needs what the check promises: HTTPS, the name, and one process for each question.
HEALTH = """
import os, threading, time
from django.db import connection
from django.http import HttpResponse, JsonResponse
from work.tasks import _record
def health(request):
    names = ("wsgi.url_scheme", "HTTP_X_FORWARDED_PROTO")
    schemes = {request.scheme, *(request.META[name] for name in names)}
    _record("asked", f"{os.getppid()} {schemes} {request.get_host()} {request.GET['deep']}")
    return HttpResponse("well") if request.GET["deep"] == "yes" else broken(request)
def broken(request):
    return JsonResponse({"redis": "down", "more": "x" * 1000 + "end"}, status=503)
def raises(request):
    raise LookupError("no such thing")
def hangs(request):
    time.sleep(600)
def dies(request):
    os.kill(os.getpid(), 9)
def connects(request):
    import redis
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    request.resolver_match.kept = redis.Redis.from_url(os.environ["BROKER_URL"])
    request.resolver_match.kept.ping()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("well")
"""


@pytest.fixture
def asked(bare_environment: dict[str, str], project: Path) -> dict[str, str]:
    """The environment of a gunicorn with the check; the broker is down."""
    with (project / "work" / "views.py").open("a") as module:
        module.write(HEALTH)
    views = ["health", "broken", "raises", "hangs", "dies", "connects"]
    with (project / "work" / "urls.py").open("a") as module:
        for view in views:
            module.write(f"urlpatterns.append(path('{view}/', views.{view}))\n")
    secure = 'SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")\n'
    with (project / "demo" / "settings.py").open("a") as module:
        module.write(f"ALLOWED_HOSTS = ['{HOST}']\n{secure}")
    return {
        **bare_environment,
        "CELERIAC_JUDGE": "1",
        "CELERIAC_HEALTH_PATH": "/health/?deep=yes",
        "CELERIAC_HEALTH_HOST": HOST,
        "CELERIAC_JUDGE_SECONDS": "20",
    }


def verdict(output: str) -> str:
    """Return the one line of the check in what gunicorn wrote."""
    (line,) = [line for line in output.splitlines() if line.startswith("celeriac: ")]
    return line


@pytest.mark.parametrize(
    ("path", "host", "why"),
    [
        ("/broken/", HOST, '503 Service Unavailable; {"redis": "down", "more": "xxx'),
        ("/gone/", HOST, "404 Not Found; "),
        ("/raises/", HOST, "LookupError: no such thing"),
        ("/dies/", HOST, "the process that asked ended with -9"),
        ("/health/?deep=yes", "other.example.org", "400 Bad Request; "),
        ("", HOST, "CELERIAC_HEALTH_PATH is not set"),
        ("/health/", "", "CELERIAC_HEALTH_HOST is not set"),
    ],
)
def test_a_release_that_is_not_well_ends_before_it_accepts(
    asked: dict[str, str], waiting: Waiting, path: str, host: str, why: str
) -> None:
    output = waiting.refused({**asked, "CELERIAC_HEALTH_PATH": path, "CELERIAC_HEALTH_HOST": host})
    assert why in verdict(output)
    assert "end" not in verdict(output).partition("xxx")[2]  # no more than 500 bytes of the body
    with waiting.gunicorn(asked):
        assert waiting.answer() == "HTTP/1.0 200 OK"


def test_a_release_that_does_not_answer_ends_in_time(asked: dict[str, str], waiting: Waiting) -> None:
    hangs = {**asked, "CELERIAC_HEALTH_PATH": "/hangs/", "CELERIAC_JUDGE_SECONDS": "1.5"}
    assert verdict(waiting.refused(hangs)).endswith("/hangs/: no answer in 1.5 s")
    # The child was killed: nothing holds the test's socket but the test.
    assert not [pid for pid in processes() if "celeriac.web.wsgi" in command_line(pid)]


def test_a_release_that_is_well_serves(asked: dict[str, str], waiting: Waiting) -> None:
    with waiting.gunicorn(asked) as process:
        assert waiting.answer() == "HTTP/1.0 200 OK"
        record = Path(asked["RECORD"]).read_text().splitlines()
        assert record == [f"asked {process.pid} {{'https'}} {HOST} yes"]
        process.terminate()
        output, _ = process.communicate(timeout=20)
    assert verdict(output).startswith("celeriac: the release is good: /health/")


@pytest.mark.parametrize("value", [None, "", "0"])
def test_nobody_asks_unless_told_to(asked: dict[str, str], waiting: Waiting, value: str | None) -> None:
    del asked["CELERIAC_JUDGE"]
    boot = {**asked, "CELERIAC_HEALTH_PATH": "/broken/"}
    with waiting.gunicorn(boot if value is None else {**boot, "CELERIAC_JUDGE": value}):
        assert waiting.answer() == "HTTP/1.0 200 OK"
    assert not Path(asked["RECORD"]).exists()


def test_the_check_leaves_nothing_in_the_process_that_serves(
    asked: dict[str, str], waiting: Waiting, on_postgresql: dict[str, str], redis: Redis
) -> None:
    environment = {**asked, **on_postgresql, "CELERIAC_HEALTH_PATH": "/connects/"}
    with (
        redis_client.Redis.from_url(redis.url) as onlooker,
        waiting.gunicorn(environment) as process,
    ):
        first = onlooker.client_id()  # of those before it some belong to earlier tests, and end yet
        assert waiting.answer() == "HTTP/1.0 200 OK"
        assert len(list(Path(f"/proc/{process.pid}/task").iterdir())) == 1
        assert sessions(on_postgresql) == 0
        assert [client for client in onlooker.client_list() if int(client["id"]) > first] == []
        process.terminate()
        output, _ = process.communicate(timeout=20)
    assert "the release is good" in verdict(output)


def processes() -> list[int]:
    """Return the children of this process, and theirs, by their numbers."""
    found = [os.getpid()]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found[1:]


def command_line(pid: int) -> str:
    """Return the command line of a process, nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return ""
