"""Fixtures: a Redis server, the running site, and those who visit it."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import kombu.pools
import pytest
from celery import current_app
from django.utils import translation
from playwright.sync_api import Browser
from testkit.browser import chromium
from testkit.endings import end_as_by_ctrl_c
from testkit.ports import free_port
from testkit.postgresql import PostgreSQL, postgresql_server
from testkit.rabbitmq import RabbitMQ, rabbitmq_server
from testkit.redis import Redis, redis_server
from testkit.waiting import eventually

from messages import Queue
from processes import PASSWORD, Stack, Visitor, run, tail

# Tests inside this process never reach a Redis that happens to run on this computer. Celery reads
# the variable at each use.
os.environ["CELERY_BROKER_URL"] = "redis://127.0.0.1:1/0"

pytest_configure = end_as_by_ctrl_c


BROKER_DATABASE = 8  # of the Redis server, for the fixture `broker`


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Iterator[None]:
    """Show with a failure what the processes that it used have said last."""
    outcome: Any = yield
    report = outcome.get_result()
    for stack in item.funcargs.values() if report.failed else ():
        if isinstance(stack, Stack):
            report.sections += [(f"The end of {log.name}", tail(log)) for log in sorted(stack.folder.glob("*.log"))]


@pytest.fixture(autouse=True)
def language() -> Iterator[None]:
    """What a test asked for in Russian, inside this process, is not the language of the next one."""
    yield
    translation.deactivate()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers, as a frozen server does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser. Only as long as it is needed: meanwhile Django takes this thread for an asynchronous one."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session", name="redis_server")
def redis_of_the_run() -> Iterator[Redis]:
    """A running Redis server."""
    with redis_server(on_disk=True, password=PASSWORD) as server:
        yield server


@pytest.fixture
def broker(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A broker for what is sent from this process, with nothing in it; nobody takes it from there."""
    monkeypatch.setenv("CELERY_BROKER_URL", redis_server.database(BROKER_DATABASE))
    forget_connections()
    redis_server.forget(BROKER_DATABASE)
    yield
    forget_connections()


@pytest.fixture
def queue(broker: None, redis_server: Redis) -> Queue:
    """What waits at that broker."""
    return Queue(redis_server, BROKER_DATABASE)


def forget_connections() -> None:
    """Let Celery read again where its broker is."""
    kombu.pools.reset()
    app: Any = current_app  # Celery's types do not know these
    app._pool = app.amqp._producer_pool = None


@pytest.fixture(scope="session", name="postgresql_server")
def postgresql_of_the_run() -> Iterator[PostgreSQL]:
    """A running PostgreSQL cluster, without databases."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="session", name="rabbitmq_server")
def rabbitmq_of_the_run() -> Iterator[RabbitMQ]:
    """A running RabbitMQ."""
    with rabbitmq_server() as server:
        yield server


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory, redis_server: Redis) -> Path:
    """An SQLite database with the site's tables, to copy."""
    stack = Stack(tmp_path_factory.mktemp("tables"), redis_server)
    stack.migrate()
    return stack.folder / "db.sqlite3"


@pytest.fixture(scope="session")
def tables_on_postgresql(
    tmp_path_factory: pytest.TempPathFactory, redis_server: Redis, postgresql_server: PostgreSQL
) -> str:
    """The name of a PostgreSQL database with the site's tables, to copy."""
    variables = {"DATABASE_URL": postgresql_server.create("tables")}
    Stack(tmp_path_factory.mktemp("tables"), redis_server, variables=variables).migrate()
    return "tables"


@pytest.fixture(params=["redis", "rabbitmq"])
def worker_stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    """The site's database, on each broker an empty queue, and no process yet: `start_worker` starts one.

    With Redis it is a developer's SQLite, with RabbitMQ a host's PostgreSQL.
    """
    redis = request.getfixturevalue("redis_server")
    if request.param == "redis":
        redis.forget(7)
        variables = {"CELERY_BROKER_URL": redis.database(7)}
        shutil.copy(request.getfixturevalue("tables"), tmp_path)
    else:
        postgresql = request.getfixturevalue("postgresql_server")
        template = request.getfixturevalue("tables_on_postgresql")
        rabbitmq = request.getfixturevalue("rabbitmq_server")
        variables = {
            "CELERY_BROKER_URL": rabbitmq.url,
            "DATABASE_URL": postgresql.create(f"test_{uuid4().hex}", template),
        }
        rabbitmq.forget("celery")
    stack = Stack(tmp_path, redis, variables=variables)
    yield stack
    stack.stop()


@contextmanager
def site_of(stack: Stack) -> Iterator[Stack]:
    """Run a worker and the web server of a stack, with a member of staff `anna`, until the block ends."""
    migrate = run("python3", "manage.py", "migrate", **stack.environment)
    assert migrate.returncode == 0, migrate.stderr
    stack.migrated = migrate.stdout
    user = run(
        *("python3", "manage.py", "createsuperuser", "--noinput"),
        **stack.environment,
        DJANGO_SUPERUSER_USERNAME="anna",
        DJANGO_SUPERUSER_EMAIL="",
        DJANGO_SUPERUSER_PASSWORD="correct horse",
    )
    assert user.returncode == 0, user.stderr
    port = free_port()
    stack.url = f"http://localhost:{port}"
    try:
        stack.spawn("worker", "celery", "-A", "TimeOut", "worker", "--loglevel=debug", "--concurrency=4")
        stack.spawn("web", "gunicorn", "TimeOut.wsgi:application", "--bind", f"127.0.0.1:{port}")
        eventually(lambda: " ready." in stack.log("worker"), what="the worker is ready")
        eventually(lambda: "Listening at" in stack.log("web"), what="the web server listens")
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, redis_server: Redis) -> Iterator[Stack]:
    """The running site, made by the notes' own commands, for all tests."""
    with site_of(Stack(tmp_path_factory.mktemp("stack"), redis_server)) as stack:
        stack.spawn("beat", "celery", "-A", "TimeOut", "beat")
        eventually(lambda: stack.query("select 1 from django_celery_beat_periodictask"), what="beat has its schedule")
        yield stack


@pytest.fixture
def idle_stack(tmp_path: Path) -> Iterator[Stack]:
    """A site of its own, with a Redis of its own and without beat: nobody does anything in it."""
    with redis_server(on_disk=True, password=PASSWORD) as redis, site_of(Stack(tmp_path, redis)) as stack:
        yield stack


@pytest.fixture
def stranger(stack: Stack) -> Visitor:
    """Someone who is not logged in."""
    return Visitor(stack.url)


@pytest.fixture
def anna(stack: Stack) -> Visitor:
    """A member of staff, logged in."""
    visitor = Visitor(stack.url)
    visitor.log_in()
    return visitor


@pytest.fixture(scope="session")
def site(stack: Stack) -> str:
    """The address of the running site, with its static files."""
    port = free_port()
    stack.spawn("pages", "python3", "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}")
    url = f"http://localhost:{port}"

    def answers() -> bool:
        try:
            return Visitor(url).ask("/health/").status == 200
        except OSError:
            return False

    eventually(answers, what="the pages are there")
    return url
