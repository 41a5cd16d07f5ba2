"""`manage.py task`, as a script would use it: output, exit codes, and what can happen to a task on both backends."""

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from celeriac.console import runs
from celeriac.console.management.commands.task import parsed
from django.core.management import CommandError, call_command
from testkit.redis import Redis
from testkit.waiting import eventually

from processes import Stack, run


@pytest.fixture(params=["django-db", "redis"], scope="module")
def backend_stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis_server: Redis, tables: Path
) -> Iterator[Stack]:
    """A worker, with results in the database and in Redis."""
    redis_server.forget(6)
    variables = {"CELERY_BROKER_URL": redis_server.database(6), "CELERY_RESULT_BACKEND": request.param}
    stack = Stack(tmp_path_factory.mktemp("backend"), redis_server, variables=variables)
    shutil.copy(tables, stack.folder)
    stack.start_worker("--concurrency=4")
    yield stack
    stack.stop()


def test_a_task_is_run_and_run_again_from_a_script(backend_stack: Stack) -> None:
    """An object with the result; then the same once more, under another id."""
    first = backend_stack.manage("task", "run", "app.tasks.simple_function", "text=one two", "--wait", "--json")
    assert first.returncode == 0, first.stderr
    one = json.loads(first.stdout)
    assert (one["state"], one["result"], one["kwargs"]) == ("SUCCESS", "ONE TWO", {"text": "one two"})
    again = backend_stack.manage("task", "rerun", one["id"], "--wait", "--json")
    two = json.loads(again.stdout)
    assert (two["state"], two["result"], two["kwargs"]) == ("SUCCESS", "ONE TWO", one["kwargs"])
    assert two["parent"] == one["id"] != two["id"]
    assert two["sent_by"].endswith("(terminal)")
    shown = backend_stack.manage("task", "show", two["id"], "--json")
    assert json.loads(shown.stdout) == two
    listed = json.loads(backend_stack.manage("task", "list", "--json", "--state", "SUCCESS", "--size", "2").stdout)
    assert [each["id"] for each in listed] == [two["id"], one["id"]]
    assert listed[0]["worker"].startswith("celery@")


WHAT_CAN_HAPPEN = """
import json, time
from celeriac.console import runs
ids = [runs.start(f"app.tasks.{name}", args) for name, args in [
    ("always_fails", ["why"]), ("exceeds_soft_limit", []), ("exceeds_time_limit", []), ("succeeds_later", [1, 1.5]),
    ("simple_function", ["x", True]),
]]
seen = {run_id: set() for run_id in ids}
deadline = time.monotonic() + 120
while not all(runs.find(run_id).is_over for run_id in ids):
    assert time.monotonic() < deadline
    for run_id in ids:
        seen[run_id].add(runs.find(run_id).state)
    time.sleep(0.05)
found = [runs.find(run_id) for run_id in ids]
print(json.dumps([[run.state, run.error, run.result, sorted(seen[run.id]), bool(run.traceback)] for run in found]))
"""


def test_what_can_happen_to_a_task_is_shown_as_what_it_is(backend_stack: Stack) -> None:
    """There is no state TIMEOUT: both are FAILURE, with what was exceeded."""
    failed, soft, hard, later, called_back = backend_stack.ask(WHAT_CAN_HAPPEN)
    assert failed[:3] == ["FAILURE", "RuntimeError: why", None]
    assert failed[4], "the traceback is kept"
    assert soft[0] == "FAILURE"
    assert soft[1].startswith("SoftTimeLimitExceeded: ")
    assert hard[0] == "FAILURE"
    assert hard[1].startswith("TimeLimitExceeded: ")
    assert later[:3] == ["SUCCESS", "", 2]
    assert {"STARTED", "RETRY"} & {*hard[3], *later[3]} == {"STARTED", "RETRY"}
    assert called_back[:2] == ["FAILURE", "ValueError: was asked to fail with 'x'"]


def test_success_and_failure_are_called_back(backend_stack: Stack) -> None:
    """With the arguments that Celery gives, or the log would have a TypeError instead."""
    code = (
        "import json\nfrom celeriac.console import runs\n"
        "print(json.dumps([runs.start('app.tasks.simple_function', [str(fail), fail]) for fail in (False, True)]))"
    )
    good, bad = backend_stack.ask(code)

    def logged(line: str) -> bool:
        return line in backend_stack.log("worker")

    success = f"app.callbacks: Task app.tasks.simple_function[{good}] succeeded: 'FALSE'"
    eventually(lambda: logged(success), what="on_success")
    failure = f"app.callbacks: Task app.tasks.simple_function[{bad}] failed: ValueError: was asked to fail with 'True'"
    eventually(lambda: logged(failure), what="on_failure")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run", "app.tasks.always_fails", "--wait"), 1, ""),
        (("run", "app.tasks.add", "2"), 2, "y: is required"),
        (("run", "app.tasks.add", "2", "three"), 2, "y: is not a number"),
        (("run", "app.tasks.add", "2", "3", "--priority", "10"), 2, "priority"),
        (("run",), 2, "required"),
        (("dance",), 2, "invalid choice"),
        (("run", "app.tasks.nothing"), 3, "no task"),
        (("show", "nobody"), 3, "nobody"),
        (("rerun", "nobody"), 3, "nobody"),
        (("revoke", "nobody"), 3, "nobody"),
        (("release", "nobody", "nothing"), 3, "nobody, nothing"),
        (("release",), 2, "ids or --all"),
        (("release", "nobody", "--all"), 2, "ids or --all"),
        (("run", "app.tasks.add", "2", "3", "--countdown", "60", "--wait", "--timeout", "0.3"), 5, "PENDING"),
    ],
)
@pytest.mark.parametrize("backend_stack", ["django-db"], indirect=True)
def test_the_exit_code_says_what_happened(
    arguments: tuple[str, ...], code: int, said: str, backend_stack: Stack
) -> None:
    """And a sentence on standard error says it to a person."""
    done = backend_stack.manage("task", *arguments)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def closing() -> Iterator[tuple[int, list[object]]]:
    """A port at which everybody is turned away, and who has been."""
    turned_away: list[object] = []

    def turn_away(listener: socket.socket) -> None:
        with suppress(OSError):  # it is closed
            while True:
                client, address = listener.accept()
                turned_away.append(address)
                client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=turn_away, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1], turned_away
        listener.shutdown(socket.SHUT_RDWR)


def test_a_broker_that_is_away_is_4_and_soon(tmp_path: Any, closing: tuple[int, list[object]]) -> None:
    """Nothing was sent, and nothing is noted; two tries, not the twenty of a task that sends another."""
    port, tries = closing
    environment = {"DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}", "REDIS_PORT": str(port)}
    assert run("python3", "manage.py", "migrate", "-v0", **environment).returncode == 0
    for command in (("run", "app.tasks.add", "1", "2"), ("parked",), ("release", "--all")):
        tries.clear()
        done = run("python3", "manage.py", "task", *command, **environment)
        assert (done.returncode, "broker is unavailable" in done.stderr) == (4, True), done.stderr
        assert 0 < len(tries) <= 4, command
    assert run("python3", "manage.py", "task", "list", **environment).stdout == ""


@pytest.mark.django_db
def test_a_revoke_that_did_not_help_is_1(broker: None, capsys: pytest.CaptureFixture[str]) -> None:
    """The second one finds that it had ended; the first one kept it from starting."""
    run_id = runs.start("app.tasks.add", [1, 2], countdown=60)
    call_command("task", "revoke", run_id)
    assert capsys.readouterr().out == f"{run_id}: it will not start\n"
    with pytest.raises(SystemExit) as caught:
        call_command("task", "revoke", run_id, "--json")
    assert caught.value.code == 1
    assert json.loads(capsys.readouterr().out) == {"id": run_id, "done": "WAS_OVER", "text": "it had ended before"}


@pytest.mark.django_db
def test_the_registered_tasks_are_listed_with_what_they_take(capsys: pytest.CaptureFixture[str]) -> None:
    """For a person and for a program."""
    call_command("task", "list", "--tasks")
    assert "app.tasks.add(x, y)  Return the sum" in capsys.readouterr().out
    call_command("task", "list", "--tasks", "--json")
    assert "app.tasks.add" in [each["name"] for each in json.loads(capsys.readouterr().out)]
    call_command("task", "list", "--tasks", "--search", "sum two", "--json")
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == ["app.tasks.add"]
    with pytest.raises(CommandError):
        call_command("task", "list", "--search", "sum")


@pytest.mark.parametrize(
    ("typed", "args", "kwargs"),
    [
        (["2", "3.5", "true", "null", "[1]", '{"a": 1}'], [2, 3.5, True, None, [1], {"a": 1}], {}),
        (["two words", '"2"', "nul", "[1", ""], ["two words", "2", "nul", "[1", ""], {}),
        (["x=1", "y=a=b", "z="], [], {"x": 1, "y": "a=b", "z": ""}),
        (["1=2", "a-b=3", "=x", "http://x/?a=b"], ["1=2", "a-b=3", "=x", "http://x/?a=b"], {}),
    ],
)
def test_each_argument_is_json_where_it_parses_and_else_a_text(
    typed: list[str], args: list[Any], kwargs: dict[str, Any]
) -> None:
    """What has a name before an equals sign is given by that name."""
    assert parsed(typed) == (args, kwargs)
