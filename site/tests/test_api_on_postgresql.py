"""The API, the console and the start form once more, on the database that a host has: it takes less than SQLite."""

import subprocess

from testkit.postgresql import PostgreSQL

from processes import SITE, bare_environment


def test_the_api_and_the_form_bear_the_same_on_postgresql(postgresql_server: PostgreSQL) -> None:
    """A text with a NUL in it, a number too large for a column."""
    environment = bare_environment(DATABASE_URL=postgresql_server.create("api"))
    # Without what needs the running site, which has a database of its own.
    files = ("api", "fuzz", "console", "graphs")
    tests = (*(f"tests/test_{name}.py" for name in files), "-k", "not program and not away and not in_the_queue")
    command = ("python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    done = subprocess.run(command, cwd=SITE, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout
