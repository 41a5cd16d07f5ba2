"""The environment in which the tests start processes, and ways to look at what these do."""

import os
import tempfile
from pathlib import Path

import psycopg
from testkit.postgresql import PostgreSQL

HERE = Path(__file__).resolve().parent
PROJECT = HERE / "project"
TOKEN = "the-token-of-the-tests"

# Compiled code of all that is imported; without it a process takes three times as long to start. The processes that
# pytest-xdist starts have the one of the process that has started them.
SHARED = "CELERIAC_COMPILED"
if SHARED not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="celeriac-compiled-")
    os.environ[SHARED] = COMPILED.name


def process_environment(scratch: Path, project: Path) -> dict[str, str]:
    """Return what a unit's EnvironmentFile would hold, and where a test finds what it needs."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{project}:{HERE.parent}",
        "PYTHONPYCACHEPREFIX": os.environ[SHARED],
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
        "CELERIAC_MIGRATIONS_FILE": str(scratch / "migrations.json"),
    }


def empty_database(postgresql: PostgreSQL, name: str, template: str = "template1") -> dict[str, str]:
    """Make a database; return what a process needs in its environment to use it.

    Args:
        postgresql: where.
        name: of the database.
        template: the name of another, which it is a copy of.
    """
    postgresql.create(name, template)
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


def children(pid: int) -> list[int]:
    """Return the ids of the processes that the main thread of another has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def sessions(environment: dict[str, str]) -> int:
    """Return how many sessions there are in a database, besides this one.

    Args:
        environment: as for `postgresql_session`.
    """
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with postgresql_session(environment) as session:
        row = session.execute(query).fetchone()
    assert row is not None
    return int(row[0])
