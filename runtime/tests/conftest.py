"""The services and the project that the tests run against."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis as redis_client
from services import PostgreSQL, Redis, postgresql_server, redis_server

HERE = Path(__file__).resolve().parent
PROJECT = HERE / "project"
TOKEN = "the-token-of-the-tests"

# Compiled code of everything that the tests start, wherever it may be written: a third of the time.
COMPILED = tempfile.TemporaryDirectory(prefix="celeriac-compiled-")

# For the tests that call our code in their own process. No such test connects to a broker.
os.environ["DJANGO_SETTINGS_MODULE"] = "demo.settings"
os.environ["SQLITE"] = ":memory:"
sys.path.insert(0, str(PROJECT))


@pytest.fixture(scope="session")
def redis_of_the_run() -> Iterator[Redis]:
    """One redis-server for all tests."""
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(redis_of_the_run: Redis) -> Redis:
    """A running and empty Redis."""
    redis_of_the_run.start()
    with redis_client.Redis.from_url(redis_of_the_run.url) as client:
        client.flushall()
    return redis_of_the_run


@pytest.fixture(scope="session")
def postgresql_of_the_run() -> Iterator[PostgreSQL]:
    """One PostgreSQL for all tests."""
    with postgresql_server() as server:
        yield server


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory with a path short enough for a Unix socket in it."""
    with tempfile.TemporaryDirectory(prefix="celeriac-") as directory:
        yield Path(directory)


@pytest.fixture
def project(scratch: Path) -> Path:
    """A copy of the test project, which a test may break."""
    shutil.copytree(PROJECT, scratch / "project", ignore=shutil.ignore_patterns("__pycache__"))
    return scratch / "project"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with the project's schema, to be copied."""
    directory = tmp_path_factory.mktemp("migrated")
    environment = process_environment(directory, PROJECT)
    subprocess.run(
        [sys.executable, "-m", "celeriac.prepare", "migrate"], env=environment, check=True
    )
    return directory / "db.sqlite3"


@pytest.fixture
def bare_environment(scratch: Path, project: Path) -> dict[str, str]:
    """The environment of a process of the project, with an empty SQLite database and no broker."""
    return process_environment(scratch, project)


@pytest.fixture
def environment(bare_environment: dict[str, str], migrated: Path, redis: Redis) -> dict[str, str]:
    """The environment of a process of the project, with a migrated SQLite database and Redis."""
    shutil.copy(migrated, bare_environment["SQLITE"])
    return {**bare_environment, "BROKER_URL": redis.url}


@pytest.fixture
def postgresql(postgresql_of_the_run: PostgreSQL) -> PostgreSQL:
    """A running PostgreSQL."""
    postgresql_of_the_run.start()
    return postgresql_of_the_run


@pytest.fixture
def on_postgresql(
    bare_environment: dict[str, str], postgresql: PostgreSQL, redis: Redis, scratch: Path
) -> dict[str, str]:
    """The environment of a process of the project, with an empty PostgreSQL database and Redis."""
    database = empty_database(postgresql, scratch.name)
    return {**bare_environment, **database, "BROKER_URL": redis.url}


def process_environment(scratch: Path, project: Path) -> dict[str, str]:
    """Return what a unit's EnvironmentFile would hold, and where a test finds what it needs."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{project}:{HERE.parent}",
        "PYTHONPYCACHEPREFIX": COMPILED.name,
        "DJANGO_SETTINGS_MODULE": "demo.settings",
        "CELERIAC_CELERY_APP": "demo",
        "CELERIAC_WSGI_APPLICATION": "demo.wsgi",
        "CELERIAC_RELEASE": "0123456789ab",
        "CELERIAC_HEALTH_TOKEN": TOKEN,
        "C_FORCE_ROOT": "1",
        "SCRATCH": str(scratch),
        "SQLITE": str(scratch / "db.sqlite3"),
        "RECORD": str(scratch / "record"),
        "STATIC_ROOT": str(scratch / "static"),
    }


def empty_database(postgresql: PostgreSQL, name: str) -> dict[str, str]:
    """Make a database; return what a process needs in its environment to use it."""
    with postgresql_session(postgresql.environment) as session:
        session.execute(f'CREATE DATABASE "{name}"')
    return {**postgresql.environment, "PGDATABASE": name}


def postgresql_session(environment: dict[str, str]) -> psycopg.Connection:
    """Connect to the PostgreSQL that an environment names, as an onlooker; every statement commits.

    Args:
        environment: PGHOST, PGUSER, and PGDATABASE if it is not ``postgres``.
    """
    return psycopg.connect(
        host=environment["PGHOST"],
        user=environment["PGUSER"],
        dbname=environment.get("PGDATABASE", "postgres"),
        application_name="onlooker",
        autocommit=True,
    )
