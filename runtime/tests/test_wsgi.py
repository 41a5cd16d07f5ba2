"""The wrapped WSGI application, served by a real gunicorn to real clients."""

import http.client
import json
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis as redis_client
from amqp.exceptions import PreconditionFailed
from celery import Celery
from environment import PROJECT, TOKEN, empty_database, process_environment, sessions
from kombu import Connection, Queue
from listening import NO_CONTROL_SOCKET
from supervised import Supervised, supervised
from testkit.ports import free_port
from testkit.postgresql import PostgreSQL
from testkit.rabbitmq import RabbitMQ
from testkit.redis import Redis, redis_server
from testkit.waiting import comes_true

from celeriac.tasks import WATCHED_SECONDS
from celeriac.transport.parking import PARKED, unreadable
from celeriac.web import health

RELEASE = "0123456789ab"
PING = "/-/celeriac/ping"
STATUS = "/-/celeriac/status"
# A task that nobody has sent.
NOBODYS = "6b1f4c8e-98a5-4b5e-9d1c-1f0a6c2f7c11"


class Site:
    """A running site.

    Attributes:
        port: of its gunicorn, on 127.0.0.1.
        environment: of its processes.
        broker: its broker.
    """

    def __init__(self, environment: dict[str, str], broker: Redis | RabbitMQ) -> None:
        self.port = free_port()
        self.environment = environment
        self.broker = broker

    def request(
        self, method: str, path: str, authorization: str | None = f"Bearer {TOKEN}"
    ) -> tuple[int, http.client.HTTPMessage, Any]:
        """Send a request; return the status, the headers and the content of the answer."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            headers = {} if authorization is None else {"Authorization": authorization}
            client.request(method, path, headers=headers)
            answer = client.getresponse()
            body = answer.read().decode()
            is_json = answer.headers["Content-Type"] == "application/json"
            return answer.status, answer.headers, json.loads(body) if is_json else body
        finally:
            client.close()


@contextmanager
def gunicorn(site: Site, *binds: str) -> Iterator[Supervised]:
    """Serve a site as the unit does: the application is imported before the fork."""
    options = ["--preload", *NO_CONTROL_SOCKET, f"--bind=127.0.0.1:{site.port}", "--workers=2"]
    options += [f"--bind={bind}" for bind in binds]
    command = [*options, "celeriac.web.wsgi:application"]
    with supervised("gunicorn", *command, environment=site.environment) as running:
        running.told("READY=1")
        yield running


@contextmanager
def with_a_worker(broker: Redis | RabbitMQ, migrated: Path, **settings: object) -> Iterator[Site]:
    """A site with a worker, on SQLite."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="celeriac-")))
        environment = {
            **process_environment(scratch, PROJECT),
            "BROKER_URL": broker.url,
            "MORE_SETTINGS": json.dumps(settings),
        }
        shutil.copy(migrated, environment["SQLITE"])
        site = Site(environment, broker)
        command = ["-A", "celeriac.app", "worker", "--hostname=tested@%h", "--concurrency=1"]
        worker = stack.enter_context(supervised("celeriac.celery", *command, environment=environment))
        stack.enter_context(gunicorn(site))
        worker.told("READY=1")
        yield site


@pytest.fixture(scope="module")
def site(migrated: Path) -> Iterator[Site]:
    """A site whose project makes a health check hard: no results, and much patience with a broker that is away."""
    settings = {
        "CELERY_RESULT_BACKEND": None,
        "CELERY_TASK_IGNORE_RESULT": True,
        "CELERY_TASK_PUBLISH_RETRY_POLICY": {"max_retries": 100, "interval_start": 1},
    }
    with redis_server() as redis, with_a_worker(redis, migrated, **settings) as site:
        yield site


@pytest.fixture(scope="module")
def site_on_rabbitmq(migrated: Path, rabbitmq: RabbitMQ) -> Iterator[Site]:
    """A site on RabbitMQ whose results are away."""
    with with_a_worker(rabbitmq, migrated, CELERY_RESULT_BACKEND="redis://127.0.0.1:1") as site:
        yield site


@pytest.fixture(scope="module")
def site_on_postgresql(postgresql_of_the_run: PostgreSQL) -> Iterator[Site]:
    """A site without a worker, on PostgreSQL, of a project that queries while it is imported."""
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server())
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="celeriac-")))
        project = shutil.copytree(PROJECT, scratch / "project")
        with (project / "demo" / "wsgi.py").open("a") as file:
            file.write("from django.db import connection\n")
            file.write("with connection.cursor() as cursor:\n    cursor.execute('SELECT 1')\n")
        postgresql_of_the_run.start()
        environment = {
            **process_environment(scratch, project),
            **empty_database(postgresql_of_the_run, scratch.name),
            "BROKER_URL": redis.url,
        }
        site = Site(environment, redis)
        stack.enter_context(gunicorn(site))
        yield site


@pytest.mark.parametrize("which", ["site", "site_on_rabbitmq"])
def test_a_ping_is_answered_over_the_broker_alone(which: str, request: pytest.FixtureRequest) -> None:
    """Each time that somebody asks, be it by another process."""
    site: Site = request.getfixturevalue(which)
    status, _, content = site.request("POST", PING)
    assert status == 202
    path = f"{PING}/{UUID(content['id'])}"
    assert comes_true(lambda: site.request("GET", path)[2]["state"] == "SUCCESS")
    for _ in range(5):
        status, headers, content = site.request("GET", path)
        assert status == 200
        assert content["result"] == {"release": RELEASE, "hostname": f"tested@{socket.gethostname()}"}
        assert headers["Cache-Control"] == "no-store"


def test_an_answer_that_nobody_reads_goes_by_itself(site: Site, site_on_rabbitmq: Site) -> None:
    ping = site.request("POST", PING)[2]["id"]
    with redis_client.Redis.from_url(site.broker.url) as onlooker:
        assert comes_true(lambda: 0 < onlooker.ttl(f"celeriac.pong.{ping}") <= WATCHED_SECONDS)
    ping = site_on_rabbitmq.request("POST", PING)[2]["id"]
    assert comes_true(lambda: site_on_rabbitmq.request("GET", f"{PING}/{ping}")[2]["state"] == "SUCCESS")
    with Connection(site_on_rabbitmq.broker.url) as connection:
        # RabbitMQ refuses the queue to who says it differently.
        other = Queue(f"celeriac.pong.{ping}", expires=WATCHED_SECONDS + 1)
        with pytest.raises(PreconditionFailed, match=f"x-expires.*{1000 * WATCHED_SECONDS}"):
            other(connection.default_channel).declare()


@pytest.mark.parametrize(("queue", "query"), [("mail", ""), ("", "?queue=letters")])
def test_a_ping_goes_where_the_workers_consume(site: Site, queue: str, query: str) -> None:
    """The worker of the other tests consumes the default queue, where nobody else is to answer."""
    elsewhere = Site({**site.environment, "CELERIAC_PING_QUEUE": queue}, site.broker)
    command = ["-A", "celeriac.app", "worker", "--hostname=mail@%h", "--queues=mail,letters"]
    with (
        gunicorn(elsewhere),
        supervised("celeriac.celery", *command, environment=elsewhere.environment) as worker,
    ):
        worker.told("READY=1")
        path = f"{PING}/{elsewhere.request('POST', f'{PING}{query}')[2]['id']}"
        assert comes_true(lambda: elsewhere.request("GET", path)[2]["state"] == "SUCCESS", 30)
        answer = elsewhere.request("GET", path)[2]["result"]
    assert answer["hostname"] == f"mail@{socket.gethostname()}"


def test_a_ping_sent_in_any_other_way_is_answered_too(site: Site) -> None:
    with Celery(broker=site.broker.url, set_as_current=False) as sender:
        path = f"{PING}/{sender.send_task('celeriac.ping').id}"
    assert comes_true(lambda: site.request("GET", path)[2]["state"] == "SUCCESS")
    assert site.request("GET", path)[2]["result"]["release"] == RELEASE


def test_workers_and_queues_are_counted(site: Site) -> None:
    sent = site.request("POST", PING)[2]["id"]
    assert comes_true(lambda: site.request("GET", f"{PING}/{sent}")[2]["state"] == "SUCCESS")
    status, _, content = site.request("GET", "/-/celeriac/workers")
    assert status == 200
    [(name, tasks)] = content["workers"].items()
    assert "@" in name
    assert tasks["active"] == 0
    assert tasks["executed"] >= 1
    assert tasks["guarantees"]["others"] == {"work.tasks.early": ["at_most_once", "task"]}
    assert content["queues"] == {"celery": 0, "celeriac.unknown": 0}


def test_the_broker_says_how_full_it_is_and_how_much_is_parked(site: Site) -> None:
    known = {"transport": "celeriac", "memory": None, "parked": 0}
    assert site.request("GET", "/-/celeriac/workers")[2]["broker"] == known
    with redis_client.Redis.from_url(site.broker.url) as onlooker:
        onlooker.hset(PARKED, "a tag", unreadable("what is no message", "celery"))
        onlooker.config_set("maxmemory", 4 * onlooker.info("memory")["used_memory"])
        try:
            broker = site.request("GET", "/-/celeriac/workers")[2]["broker"]
        finally:
            onlooker.config_set("maxmemory", 0)
            onlooker.delete(PARKED)
    assert broker["parked"] == 1
    assert 0.1 < broker["memory"] < 0.6


def test_it_says_why_the_broker_is_not_spoken_to_by_our_transport(site: Site) -> None:
    stock = Site({**site.environment, "CELERIAC_REDIS_TRANSPORT": "stock"}, site.broker)
    with gunicorn(stock):
        broker = stock.request("GET", "/-/celeriac/workers")[2]["broker"]
    assert broker["transport"] == "stock: CELERIAC_REDIS_TRANSPORT=stock"


@pytest.mark.parametrize("which", ["site", "site_on_rabbitmq"])
def test_a_ping_that_nobody_sent_is_pending(which: str, request: pytest.FixtureRequest) -> None:
    status, _, content = request.getfixturevalue(which).request("GET", f"{PING}/{NOBODYS}")
    assert (status, content) == (200, {"state": "PENDING", "result": None})


def test_every_response_names_the_release_once(site: Site) -> None:
    for path in ("/", "/no-such-page", STATUS, PING):
        _, headers, _ = site.request("GET", path)
        assert headers.get_all("X-Release") == [RELEASE]


@pytest.mark.parametrize(("by_socket", "known"), [(True, "203.0.113.9"), (False, "127.0.0.1")])
def test_the_project_knows_the_address_of_who_asks_as_nginx_says_it(
    site: Site, tmp_path: Path, by_socket: bool, known: str
) -> None:
    """Only over the socket, which nobody else may use."""
    path = tmp_path / "socket"
    other = Site(site.environment, site.broker)
    client = http.client.HTTPConnection("127.0.0.1", other.port, timeout=20)
    with gunicorn(other, f"unix:{path}"):
        if by_socket:
            client.sock = socket.socket(socket.AF_UNIX)
            client.sock.connect(str(path))
        client.request("GET", "/address/", headers={"X-Forwarded-For": "203.0.113.9"})
        assert client.getresponse().read().decode() == known
        client.close()


def test_all_else_is_the_project(site: Site) -> None:
    assert site.request("GET", "/")[2] == "hello"
    assert site.request("GET", "/-/celeriac")[0] == 404
    assert site.request("GET", "/-/celeriac")[1]["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}"],
)
@pytest.mark.parametrize(("method", "path"), [("POST", PING), ("GET", STATUS), ("PUT", STATUS)])
def test_without_the_token_there_is_nothing(site: Site, method: str, path: str, authorization: str | None) -> None:
    status, _, content = site.request(method, path, authorization)
    assert (status, content) == (404, {"error": "not found"})


@pytest.mark.parametrize("path", ["", "ping/", "ping/1", "status/", f"ping/{NOBODYS}/", "other"])
def test_an_unknown_path_is_not_found_even_with_the_token(site: Site, path: str) -> None:
    assert site.request("GET", f"/-/celeriac/{path}")[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", PING, "POST"), ("POST", STATUS, "GET"), ("POST", f"{PING}/{NOBODYS}", "GET")],
)
def test_a_wrong_method_is_refused(site: Site, method: str, path: str, allowed: str) -> None:
    status, headers, _ = site.request(method, path)
    assert (status, headers["Allow"]) == (405, allowed)


def test_without_a_configured_token_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_HEALTH_TOKEN", "")
    assert answer(Celery(), "GET", STATUS, token="")[0] == "404 Not Found"
    monkeypatch.delenv("CELERIAC_HEALTH_TOKEN")
    assert answer(Celery(), "GET", STATUS, token="")[0] == "404 Not Found"


def test_a_broker_that_is_away_is_an_error_soon(site: Site) -> None:
    site.broker.stop()
    try:
        for method, path in (("POST", PING), ("GET", f"{PING}/{NOBODYS}")):
            status, _, content = site.request(method, path)
            assert status == 503
            assert "error" in content
        assert site.request("GET", "/")[0] == 200
    finally:
        site.broker.start()
    assert site.request("POST", PING)[0] == 202


@pytest.mark.parametrize("transport", ["redis", "amqp"])
def test_a_broker_that_never_answers_is_an_error_soon(monkeypatch: pytest.MonkeyPatch, transport: str) -> None:
    monkeypatch.setenv("CELERIAC_HEALTH_TOKEN", TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        app = Celery(broker=f"{transport}://127.0.0.1:{silent.getsockname()[1]}//")
        status, content = answer(app, "POST", PING)
    assert status == "503 Service Unavailable"
    assert "error" in content


def connections(onlooker: "redis_client.Redis") -> set[str]:
    """Return the ids of those who are connected to a Redis."""
    return {each["id"] for each in onlooker.client_list()}


def test_a_ping_leaves_nothing_connected(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_HEALTH_TOKEN", TOKEN)
    app = Celery(broker=redis.url, backend=redis.url)
    with redis_client.Redis.from_url(redis.url) as onlooker:
        before = connections(onlooker)
        assert answer(app, "POST", PING)[0] == "202 Accepted"
        assert onlooker.pubsub_channels() == []
        # One of an earlier test may end meanwhile.
        assert connections(onlooker) <= before


def test_nothing_is_connected_when_the_workers_are_forked(site_on_postgresql: Site) -> None:
    assert sessions(site_on_postgresql.environment) == 0
    with redis_client.Redis.from_url(site_on_postgresql.broker.url) as onlooker:
        assert len(onlooker.client_list()) == 1


def test_the_status_names_what_is_not_migrated(site: Site, site_on_postgresql: Site) -> None:
    content = site.request("GET", STATUS)[2]
    assert content["release"] == RELEASE
    assert content["unapplied_migrations"] == []
    assert "work.0001_initial" in content["applied_migrations"]
    status, _, content = site_on_postgresql.request("GET", STATUS)
    assert status == 200
    assert "work.0001_initial" in content["unapplied_migrations"]
    assert content["applied_migrations"] == []


def test_a_check_gives_its_database_connection_back(site_on_postgresql: Site) -> None:
    assert site_on_postgresql.request("GET", STATUS)[0] == 200
    assert comes_true(lambda: sessions(site_on_postgresql.environment) == 0)


def test_a_database_that_is_away_is_an_error_soon(site_on_postgresql: Site, postgresql_of_the_run: PostgreSQL) -> None:
    postgresql_of_the_run.stop()
    try:
        status, _, content = site_on_postgresql.request("GET", STATUS)
        assert status == 503
        assert "error" in content
    finally:
        postgresql_of_the_run.start()
    assert site_on_postgresql.request("GET", STATUS)[0] == 200


def answer(app: Celery, method: str, path: str, token: str = TOKEN) -> tuple[str, Any]:
    """Call the endpoints in this process; return the status line and the content."""
    statuses: list[str] = []
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "HTTP_AUTHORIZATION": f"Bearer {token}",
    }
    body = health.answer(app, environ, lambda status, headers: statuses.append(status))
    return statuses[0], json.loads(b"".join(body))
