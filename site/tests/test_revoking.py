"""Revoking: what is revoked does not run, whatever happens to the workers. On both brokers."""

from pathlib import Path
from typing import Any

import pytest
from testkit.ports import free_port
from testkit.postgresql import PostgreSQL
from testkit.redis import Redis
from testkit.waiting import eventually

from processes import PASSWORD, Stack

# At the beginning of what is done inside the project: one process does a whole step, for each takes a second to start.
PRELUDE = """
import json, time
from concurrent.futures import ThreadPoolExecutor
from celeriac.console import runs

def wait_for(run_id, state, seconds=60):
    deadline = time.monotonic() + seconds
    while runs.find(run_id).state != state:
        assert time.monotonic() < deadline, runs.find(run_id)
        time.sleep(0.05)
    return run_id

def show(run_id):
    run = runs.find(run_id)
    return [run.state, run.error, run.result]

def revoke(ids):
    with ThreadPoolExecutor(len(ids)) as threads:
        return [done.name for done in threads.map(runs.revoke, ids)]
"""


def ask(stack: Stack, code: str) -> Any:
    """Return what an expression at the end of some code is worth."""
    *statements, expression = code.strip().splitlines()
    return stack.ask(PRELUDE + "\n".join([*statements, f"print(json.dumps({expression}))"]))


def test_what_is_revoked_while_no_worker_is_up_is_revoked_at_once_and_never_runs(worker_stack: Stack) -> None:
    """Celery itself would tell nobody, and the task would run."""
    run_id, done, shown = ask(
        worker_stack,
        "run_id = runs.start('app.tasks.simple_function', ['never'])\n"
        "[run_id, runs.revoke(run_id, by='anna').name, show(run_id)]",
    )
    assert done == "BEFORE_START"
    assert shown == ["REVOKED", "TaskRevokedError: revoked", None]
    worker_stack.start_worker("--concurrency=1")
    # First in, first out: when this one is done, the revoked one has had its turn.
    after, shown = ask(
        worker_stack,
        "after = wait_for(runs.start('app.tasks.simple_function', ['after']), 'SUCCESS')\n"
        f"[show(after), show('{run_id}')]",
    )
    assert after == ["SUCCESS", "", "AFTER"]
    assert shown == ["REVOKED", "TaskRevokedError: revoked", None]
    log = worker_stack.log("worker")
    assert f"Discarding revoked task: app.tasks.simple_function[{run_id}]" in log
    assert "NEVER" not in log


def test_six_revoked_behind_a_running_one_do_not_run_though_the_worker_is_killed(worker_stack: Stack) -> None:
    """The worker holds three of them for their time, which comes later, and has fetched one."""
    worker_stack.start_worker("--concurrency=1")
    running = ask(worker_stack, "wait_for(runs.start('app.tasks.add', [2, 3]), 'STARTED')")
    worker_stack.freeze_pool()  # It takes five seconds, and the rest may take longer.
    waiting, done, shown = ask(
        worker_stack,
        "send = lambda **options: runs.start('app.tasks.simple_function', ['late'], **options)\n"
        "ids = [send() for _ in range(3)] + [send(countdown=4) for _ in range(3)]\n"
        "[ids, revoke(ids), [show(run_id)[0] for run_id in ids]]",
    )
    assert done == ["BEFORE_START"] * 6
    assert shown == ["REVOKED"] * 6
    worker_stack.kill("worker")
    hand_out_again(worker_stack)

    worker_stack.start_worker("--concurrency=1")
    # The task that ran when the worker was killed runs again, which is not what is asked here.
    eventually(lambda: worker_stack.log("worker").count("Discarding revoked task") == 6, what="all six are refused")
    shown = ask(
        worker_stack,
        f"wait_for('{running}', 'SUCCESS')\n"
        "wait_for(runs.start('app.tasks.simple_function', ['last'], priority=0), 'SUCCESS')\n"
        f"[show(run_id)[0] for run_id in {waiting}]",
    )
    assert shown == ["REVOKED"] * 6
    assert "LATE" not in worker_stack.log("worker")


def test_a_running_task_is_terminated_and_its_worker_goes_on(worker_stack: Stack) -> None:
    """A revoke alone says that it does not stop it. A terminated one is not given out again."""
    worker_stack.start_worker("--concurrency=1")
    run_id, done, shown, after, again = ask(
        worker_stack,
        "run_id = wait_for(runs.start('app.tasks.add', [2, 3]), 'STARTED')\n"
        "done = [runs.revoke(run_id).name, runs.revoke(run_id, terminate=True).name, runs.revoke(run_id).name]\n"
        "shown = show(run_id)\n"
        "after = wait_for(runs.start('app.tasks.simple_function'), 'SUCCESS')\n"
        "[run_id, done, shown, show(after), show(run_id)]",
    )
    assert done == ["RUNS_ON", "TERMINATED", "WAS_OVER"]
    assert shown == again == ["REVOKED", "TaskRevokedError: terminated", None]
    assert after == ["SUCCESS", "", "HELLO"]
    assert f"app.tasks.add[{run_id}] succeeded" not in worker_stack.log("worker")


@pytest.mark.parametrize("worker_stack", ["redis"], indirect=True)
def test_what_is_revoked_while_a_worker_has_no_broker_is_known_when_it_has_one_again(
    worker_stack: Stack, tmp_path: Path
) -> None:
    """Nobody could tell it: the broadcast went to those who listened."""
    broker = Redis(tmp_path, free_port(), on_disk=True, password=PASSWORD)
    broker.start()
    worker_stack.variables["CELERY_BROKER_URL"] = broker.database(0)
    # Idle: with a task in its hands Celery's worker ends when Redis does, and is a new one then.
    worker_stack.start_worker("--concurrency=1")
    try:
        broker.stop()
        # As `runs.revoke` does first, and can do no more.
        run_id = ask(worker_stack, "runs.Revocation.objects.create(task_id='8a0c').task_id")
        broker.start()
        eventually(lambda: "1 revoked task(s) will not be started" in worker_stack.log("worker"), what="it reads again")
        shown = ask(
            worker_stack,
            "from app.tasks import simple_function\n"
            f"simple_function.apply_async(['never'], task_id='{run_id}')\n"
            f"show(wait_for('{run_id}', 'REVOKED'))",
        )
        assert shown == ["REVOKED", "TaskRevokedError: revoked", None]
    finally:
        worker_stack.kill("worker")
        broker.stop()


def test_a_worker_waits_for_the_database_before_it_takes_a_task(
    tmp_path: Path, redis_server: Redis, postgresql_server: PostgreSQL
) -> None:
    """It cannot know what was revoked. When the database is there, it goes on by itself."""
    redis_server.forget(7)
    variables = {"CELERY_BROKER_URL": redis_server.database(7), "DATABASE_URL": postgresql_server.create("almost")}
    stack = Stack(tmp_path, redis_server, variables=variables)
    stack.migrate()  # before the worker begins, which does not wait for ever
    stack.variables["DATABASE_URL"] = postgresql_server.url("not_yet")
    try:
        stack.spawn("worker", "celery", "-A", "TimeOut", "worker", "--loglevel=info", "--concurrency=1")
        eventually(lambda: "The database is unavailable" in stack.log("worker"), what="it says so")
        assert " ready." not in stack.log("worker")
        postgresql_server.rename("almost", "not_yet")
        eventually(lambda: " ready." in stack.log("worker"), what="it is ready")
    finally:
        stack.stop()


def hand_out_again(stack: Stack) -> None:
    """Let the time pass after which Redis takes the tasks of a killed worker for lost. RabbitMQ notices at once."""
    ask(
        stack,
        "from celery import current_app\n"
        "broker = current_app.connection_for_write()\n"
        "client = getattr(broker.default_channel, 'client', None)\n"
        "held = client.zrange('unacked_index', 0, -1) if client else []\n"
        "if held: client.zadd('unacked_index', {tag: 1 for tag in held})\n"
        "len(held)",
    )
