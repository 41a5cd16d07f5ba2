"""The services and the project that the tests run against."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_client
from environment import HERE, PROJECT, empty_database, process_environment
from kombu import pools
from ledgers import Project, running, with_ledger
from listening import Waiting
from testkit.endings import end_as_by_ctrl_c
from testkit.postgresql import PostgreSQL, postgresql_server
from testkit.rabbitmq import RabbitMQ, rabbitmq_server
from testkit.redis import Redis, redis_server

# For the tests that call our code in their own process. No such test connects to a broker.
os.environ["DJANGO_SETTINGS_MODULE"] = "demo.settings"
os.environ["SQLITE"] = ":memory:"
sys.path.insert(0, str(PROJECT))

pytest_configure = end_as_by_ctrl_c


@pytest.fixture(scope="session")
def redis_of_the_run() -> Iterator[Redis]:
    """One redis-server for all tests."""
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(redis_of_the_run: Redis) -> Redis:
    """A running and empty Redis."""
    redis_of_the_run.start()
    pools.reset()  # with connections to one that another test has stopped
    with redis_client.Redis.from_url(redis_of_the_run.url) as client:
        client.flushall()
    return redis_of_the_run


@pytest.fixture
def kept_redis() -> Iterator[Redis]:
    """A Redis that has everything again when it is started again, as that of a host has."""
    with redis_server(on_disk=True) as server:
        yield server


@pytest.fixture
def acl(redis: Redis) -> Iterator[None]:
    """What the role lets the user of a site do; that user is there until the test ends."""
    template = HERE.parents[1] / "roles" / "redis" / "templates" / "users.acl.j2"
    (line,) = [each for each in template.read_text().splitlines() if each.startswith("user site ")]
    rules = line.rpartition("}}")[2].split()
    assert rules
    with redis_client.Redis.from_url(redis.url) as client:
        client.execute_command("ACL", "SETUSER", "site", "on", ">secret", *rules)  # type: ignore[no-untyped-call]
        yield
        client.acl_deluser("site")


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
    subprocess.run([sys.executable, "-m", "celeriac.release", "migrate"], env=environment, check=True)
    return directory / "db.sqlite3"


@pytest.fixture(scope="session")
def migrated_on_postgresql(postgresql_of_the_run: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a PostgreSQL database with the project's schema, to be copied."""
    postgresql_of_the_run.start()
    environment = process_environment(tmp_path_factory.mktemp("migrated-pg"), PROJECT)
    environment |= empty_database(postgresql_of_the_run, "migrated")
    subprocess.run([sys.executable, "-m", "celeriac.release", "migrate"], env=environment, check=True)
    return environment["PGDATABASE"]


@pytest.fixture
def bare_environment(scratch: Path, project: Path) -> dict[str, str]:
    """The environment of a process of the project, with an empty SQLite database and no broker."""
    return process_environment(scratch, project)


@pytest.fixture
def on_host(bare_environment: dict[str, str]) -> dict[str, str]:
    """The environment of a process of the project as a host has it: something may be laid over its settings."""
    overlay = {"DJANGO_SETTINGS_MODULE": "celeriac.settings", "CELERIAC_SETTINGS_MODULE": "demo.settings"}
    return {**bare_environment, **overlay}


@pytest.fixture
def environment(bare_environment: dict[str, str], migrated: Path, redis: Redis) -> dict[str, str]:
    """The environment of a process of the project, with a migrated SQLite database and Redis."""
    shutil.copy(migrated, bare_environment["SQLITE"])
    return {**bare_environment, "BROKER_URL": redis.url}


@pytest.fixture(scope="session")
def database_with_ledger(postgresql_of_the_run: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a PostgreSQL database with the schema of the project and the journal, to copy."""
    postgresql_of_the_run.start()
    environment = process_environment(tmp_path_factory.mktemp("ledger"), PROJECT)
    database = empty_database(postgresql_of_the_run, "with-ledger")
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "-v0"],
        env={**environment, **database, "MORE_APPS": "celeriac.ledger"},
        check=True,
    )
    return database["PGDATABASE"]


@pytest.fixture
def ledger_environment(
    bare_environment: dict[str, str],
    postgresql: PostgreSQL,
    redis: Redis,
    scratch: Path,
    database_with_ledger: str,
) -> dict[str, str]:
    """The environment of a process of the project with the journal, on PostgreSQL and Redis."""
    database = empty_database(postgresql, scratch.name, template=database_with_ledger)
    return with_ledger({**bare_environment, **database, "BROKER_URL": redis.url})


@pytest.fixture
def sender(ledger_environment: dict[str, str]) -> Iterator[Project]:
    """A process of the project with the journal."""
    with running(ledger_environment) as project:
        yield project


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """One RabbitMQ for all tests; each takes a queue of its own."""
    with rabbitmq_server() as server:
        yield server


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


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    """A socket with a client that waits."""
    found = Waiting()
    yield found
    found.close()
