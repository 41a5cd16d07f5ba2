"""A page of the list reads little, over 50,000 runs too, on PostgreSQL. `bin/bench console` takes the time."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from testkit.postgresql import PostgreSQL
from testkit.redis import Redis

from processes import Stack

RUNS = 25  # on a page
BLOCKS_A_RUN = 4  # of two tables, and of an index of each

MEASURE = """
import json
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_results.models import TaskResult
from celeriac.console import runs
from celeriac.ledger.models import Dispatch

def fill(first, last):
    numbers = range(first, last)
    # Nearly all have succeeded, one in a hundred has failed, the last ten wait. A schedule sent every fifth.
    ended_at = lambda n: timezone.now() if n < last - 10 else None
    entry = lambda n: "" if n % 5 else f"entry{n % 50}"
    more = lambda n: {"entry": entry(n), "ended_at": ended_at(n)}
    sent = [Dispatch(task_id=f"{n}", name=f"task{n % 10}", args="[1]", kwargs="{}", **more(n)) for n in numbers]
    Dispatch.objects.bulk_create(sent, batch_size=5000)
    json_text = {"content_type": "application/json", "content_encoding": "utf-8", "result": "null"}
    state = lambda n: "SUCCESS" if n % 100 else "FAILURE"
    ended = [TaskResult(task_id=f"{n}", status=state(n), **json_text) for n in numbers if n < last - 10]
    TaskResult.objects.bulk_create(ended, batch_size=5000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE celeriac_ledger_dispatch")
        cursor.execute("ANALYZE django_celery_results_taskresult")

WAYS = [{}, {"state": "SUCCESS"}, {"state": "PENDING"}, {"name": "task3"}, {"name": "task3", "state": "FAILURE"},
        {"state": "FAILURE"}, {"state": "REVOKED"}, {"cursor": "older-40"}, {"entry": "entry5"}, {"entry": "nobody's"}]

def blocks(sql):
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + sql)
        plan = cursor.fetchone()[0][0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

def measure():
    found = []
    for options in WAYS:
        with CaptureQueriesContext(connection) as queries:
            runs.page(**options)
        found.append([str(options), len(queries), sum(blocks(query["sql"]) for query in queries)])
    return found

fill(0, 50_000)
print(json.dumps(measure()))
"""


@pytest.fixture
def stack_on_postgresql(tmp_path: Path, redis_server: Redis, postgresql_server: PostgreSQL) -> Iterator[Stack]:
    """The tables, in PostgreSQL, and no process."""
    stack = Stack(tmp_path, redis_server, variables={"DATABASE_URL": postgresql_server.create("long_list")})
    migrate = stack.manage("migrate", "-v0")
    assert migrate.returncode == 0, migrate.stderr
    yield stack
    stack.stop()


def test_a_page_over_50_000_runs_reads_little(stack_on_postgresql: Stack) -> None:
    """Of the whole list, of one task's and of an entry's, and of what waits: a few blocks a run.

    What is in another state may have to be looked for: a hundred runs are looked at for each that has failed.
    """
    for options, queries, blocks in stack_on_postgresql.ask(MEASURE):
        print(f"{options:40} {queries} queries {blocks:5} blocks")
        assert queries <= 2, options
        looked_for = "state" in options and "PENDING" not in options
        assert blocks <= (RUNS * 100 if looked_for else RUNS) * BLOCKS_A_RUN, (options, blocks)
