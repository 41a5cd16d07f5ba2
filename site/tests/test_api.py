"""The API: who may, what it answers, and what it sends."""

import json
import logging
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from celeriac.console import history, tokens
from celeriac.console.models import ApiToken
from celeriac.ledger.models import Dispatch
from celery.utils import uuid
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from django_celery_results.models import TaskResult
from testkit.redis import Redis
from testkit.waiting import eventually

from messages import Queue
from people import member
from processes import Answer, Stack, Visitor, run

pytestmark = pytest.mark.django_db


@pytest.fixture
def token() -> str:
    """A token of a member of staff, `anna`."""
    return tokens.create(member("anna"), "tests")


@pytest.fixture
def anna_api(token: str) -> Client:
    """A program that has the token."""
    return Client(headers={"Authorization": f"Bearer {token}"})


def post(client: Client, path: str, body: Any = None, **more: Any) -> Any:
    """POST a JSON body."""
    return client.post(path, json.dumps(body) if body is not None else "", content_type="application/json", **more)


ADD = {"task": "app.tasks.add", "args": [2, 3]}


# --------------------------------------------------------------------------------------------------
# Who may
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/tasks/api/tasks"),
        ("get", "/tasks/api/runs"),
        ("get", "/tasks/api/runs/1"),
        ("post", "/tasks/api/runs"),
        ("post", "/tasks/api/runs/1/revoke"),
        ("post", "/tasks/api/runs/1/rerun"),
        ("post", "/tasks/api/runs/1/release"),
    ],
)
def test_a_stranger_may_nothing(method: str, path: str, client: Client, queue: Queue) -> None:
    """Neither without a token, nor with a wrong one."""
    token = tokens.create(member("anna"), "tests")
    number = token.partition(".")[0]
    wrong = ["", "Bearer", "Bearer x", f"Bearer {number}.wrong", f"Bearer {token}x", "Bearer 99.x", "Basic YTpi"]
    for header in [*wrong, f"Token {token}", f"Bearer {'9' * 30}.x", "Bearer ².x"]:
        answer = getattr(client, method)(path, headers={"Authorization": header} if header else {})
        assert answer.status_code == 401, header
        assert answer["WWW-Authenticate"] == "Bearer"
        assert set(answer.json()) == {"error"}
    assert queue.take() == []


@pytest.mark.parametrize(("is_staff", "is_active", "status"), [(False, True, 403), (True, False, 401)])
def test_a_token_is_worth_what_its_user_is(is_staff: bool, is_active: bool, status: int, queue: Queue) -> None:
    """403 for one who is no member of staff, 401 for one who may not log in any more."""
    token = tokens.create(User.objects.create_user("ben", is_staff=is_staff, is_active=is_active), "tests")
    answer = post(Client(headers={"Authorization": f"Bearer {token}"}), "/tasks/api/runs", ADD)
    assert answer.status_code == status
    assert queue.take() == []


def test_a_deleted_token_is_no_token(token: str) -> None:
    """As the admin deletes it."""
    client = Client(headers={"Authorization": f"Bearer {token}"})
    assert client.get("/tasks/api/tasks").status_code == 200
    ApiToken.objects.all().delete()
    assert client.get("/tasks/api/tasks").status_code == 401


def test_a_token_that_is_over_is_no_token(queue: Queue) -> None:
    """With the same answer as one that there never was; without an end it is good for as long as it is there."""
    anna = member("anna")
    unknown = Client(headers={"Authorization": "Bearer 99.x"}).get("/tasks/api/tasks")
    for days, later, status in ((30, 29, 200), (30, 31, 401), (None, 10_000, 200)):
        client = Client(headers={"Authorization": f"Bearer {tokens.create(anna, 'tests', days=days)}"})
        with time_machine.travel(timezone.now() + timedelta(days=later)):
            answer = client.get("/tasks/api/tasks")
            assert answer.status_code == status, (days, later)
            assert post(client, "/tasks/api/runs", ADD).status_code == (202 if status == 200 else 401)
        if status == 401:
            assert (answer.content, answer.headers) == (unknown.content, unknown.headers)
    assert len(queue.take()) == 2


def test_a_session_needs_the_csrf_token_to_change_something(queue: Queue) -> None:
    """A page of somebody else, open in the same browser, has none."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(member("anna"))
    assert client.get("/tasks/api/tasks").status_code == 200
    assert post(client, "/tasks/api/runs", ADD).status_code == 403
    assert queue.take() == []
    client.get("/tasks/api/")  # the page with the documentation carries one
    answer = post(client, "/tasks/api/runs", ADD, headers={"X-CSRFToken": client.cookies["csrftoken"].value})
    assert answer.status_code == 202
    assert [message["args"] for message in queue.take()] == [[2, 3]]


def test_a_session_of_somebody_who_is_no_member_of_staff_may_nothing(client: Client) -> None:
    """403: to log in would not help."""
    client.force_login(User.objects.create_user("ben"))
    assert client.get("/tasks/api/tasks").status_code == 403


def test_a_wrong_token_beside_a_session_is_a_wrong_token(client: Client) -> None:
    """A program that sends one does not want to be taken for somebody else."""
    client.force_login(member("anna"))
    assert client.get("/tasks/api/tasks", headers={"Authorization": "Bearer 1.x"}).status_code == 401


def test_only_a_hash_of_the_token_is_kept_and_nothing_of_it_is_logged(
    token: str, caplog: pytest.LogCaptureFixture, settings: Any
) -> None:
    """Neither a right one, nor one that is sent in a wrong way while DEBUG is on."""
    settings.DEBUG = True
    secret = token.partition(".")[2]
    caplog.set_level(logging.DEBUG)
    for header in (f"Bearer {token}", f"Token {token}", f"Bearer {token}x"):
        Client(headers={"Authorization": header}).get("/tasks/api/tasks")
    assert secret not in caplog.text
    assert secret not in str(ApiToken.objects.values())


def test_the_command_makes_a_token_of_a_member_of_staff_only(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the token and nothing else."""
    member("anna")
    User.objects.create_user("ben")
    call_command("api_token", "anna", "backup")
    printed = capsys.readouterr().out
    assert tokens.user_of(printed.strip()) == User.objects.get(username="anna")
    for name in ("ben", "nobody"):
        with pytest.raises(CommandError):
            call_command("api_token", name, "backup")
    assert ApiToken.objects.get().expires_at is None


def test_the_command_makes_a_token_for_so_many_days(capsys: pytest.CaptureFixture[str]) -> None:
    """It is good now, and has an end."""
    anna = member("anna")
    call_command("api_token", "anna", "backup", "--days=30")
    assert tokens.user_of(capsys.readouterr().out.strip()) == anna
    end = ApiToken.objects.get().expires_at
    assert end is not None
    assert abs(end - timezone.now() - timedelta(days=30)) < timedelta(minutes=1)


@pytest.mark.parametrize("days", ["0", "-1", "x", "²", "1.5", "36501", "9" * 30])
def test_the_command_makes_no_token_for_what_is_no_number_of_days(days: str) -> None:
    """And says which ones are."""
    member("anna")
    with pytest.raises(CommandError, match="from 1 to 36500"):
        call_command("api_token", "anna", "backup", f"--days={days}")
    assert not ApiToken.objects.exists()


def test_the_documentation_is_for_members_of_staff(client: Client, token: str) -> None:
    """A stranger gets to the log-in; its scripts are files of the site."""
    for path in ("/tasks/api/", "/tasks/api/openapi.json"):
        assert client.get(path).status_code == 302
    client.force_login(User.objects.get(username="anna"))
    page = client.get("/tasks/api/").content.decode()
    assert "/static/ninja/swagger-ui-bundle.js" in page
    assert "//cdn" not in page
    paths = client.get("/tasks/api/openapi.json").json()["paths"]
    assert {"/tasks/api/tasks", "/tasks/api/runs", "/tasks/api/runs/{run_id}", "/tasks/api/runs/{run_id}/rerun"} <= set(
        paths
    )


# --------------------------------------------------------------------------------------------------
# What it does
# --------------------------------------------------------------------------------------------------


def test_a_task_is_sent_with_what_was_asked_for(anna_api: Client, queue: Queue) -> None:
    """202, with the address where to see what becomes of it."""
    body = {"task": "app.tasks.add", "args": [2], "kwargs": {"y": 3.5}, "priority": 9, "countdown": 60}
    answer = post(anna_api, "/tasks/api/runs", body)
    assert answer.status_code == 202
    run_id = answer.json()["id"]
    assert answer["Location"] == answer.json()["url"] == f"/tasks/api/runs/{run_id}"
    (message,) = queue.take()
    assert (message["id"], message["task"], message["args"], message["kwargs"]) == (
        *(run_id, "app.tasks.add", [2], {"y": 3.5}),
    )
    shown = anna_api.get(answer["Location"]).json()
    assert (shown["state"], shown["args"], shown["kwargs"], shown["priority"]) == ("PENDING", [2], {"y": 3.5}, 9)
    assert (shown["sent_by"], shown["result"], shown["error"]) == ("anna", None, "")
    assert shown["eta"] > shown["sent_at"]
    assert LogEntry.objects.get().get_change_message() == "Started."


@pytest.mark.parametrize(
    ("body", "status", "about"),
    [
        ({"task": "app.tasks.nothing"}, 404, None),
        ({"task": "celery.backend_cleanup"}, 404, None),
        ({"task": "app.tasks.add", "args": [2]}, 422, "y"),
        ({"task": "app.tasks.add", "args": ["2", 3]}, 422, "x"),
        ({"task": "app.tasks.add", "args": [2, 3, 4]}, 422, ""),
        ({"task": "app.tasks.add", "args": [2, 3], "kwargs": {"z": 4}}, 422, "z"),
        ({**ADD, "priority": 10}, 422, "priority"),
        ({**ADD, "priority": True}, 422, "body.body.priority"),
        ({**ADD, "countdown": -1}, 422, "countdown"),
        ({**ADD, "countdown": 10**9}, 422, "countdown"),
        ({"task": "app.tasks.add", "arguments": [2, 3]}, 422, "body.body.arguments"),
        ({"task": "app.tasks.add", "args": "23"}, 422, "body.body.args"),
        ({"task": "app.tasks.add", "args": {"0": 2, "1": 3}}, 422, "body.body.args"),
        ([], 422, None),
        ({}, 422, "body.body.task"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_the_reason(
    body: Any, status: int, about: str | None, anna_api: Client, queue: Queue
) -> None:
    """By the name of the argument, and nothing is sent."""
    answer = post(anna_api, "/tasks/api/runs", body)
    assert answer.status_code == status, answer.content
    assert answer.json()["error"]
    if about is not None:
        assert list(answer.json()["problems"]) == [about]
    assert queue.take() == []
    assert not Dispatch.objects.exists()


def test_a_refusal_is_in_english_whoever_asks(anna_api: Client, queue: Queue) -> None:
    """Pages follow the browser; a program may look for the words."""
    russian = {"Accept-Language": "ru"}
    assert post(anna_api, "/tasks/api/runs", {**ADD, "args": [2]}, headers=russian).json()["error"] == "y: is required"
    TaskResult.objects.create(task_id="gone", task_name="app.tasks.gone", status="SUCCESS")
    reason = "There is no task app.tasks.gone any more."
    assert post(anna_api, "/tasks/api/runs/gone/rerun", headers=russian).json()["error"] == reason
    assert anna_api.get("/tasks/api/runs/gone", headers=russian).json()["not_rerunnable"] == reason


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"\xff", 400),
        (b'{"task": "app.tasks.add", "args": [NaN, 1]}', 400),
        (b'{"task": "app.tasks.add", "args": [1e999, 1]}', 422),
        (b"[" * 100_000, 400),
        (b'{"task": "app.tasks.send_emails", "args": [' + b"[" * 400 + b"]" * 400 + b"]}", 422),
        (b'{"task": "' + b"a" * 3_000_000 + b'"}', 413),
    ],
)
def test_a_body_that_is_no_json_or_too_large_is_refused(
    body: bytes, status: int, anna_api: Client, queue: Queue
) -> None:
    """As JSON, with the reason."""
    answer = anna_api.post("/tasks/api/runs", body, content_type="application/json")
    assert answer.status_code == status, answer.content[:300]
    assert answer.json()["error"]
    assert queue.take() == []


def test_a_run_is_sent_again_with_the_same_arguments(anna_api: Client, queue: Queue) -> None:
    """Under a new id, which names the first one."""
    first = post(anna_api, "/tasks/api/runs", {**ADD, "priority": 7}).json()["id"]
    answer = post(anna_api, f"/tasks/api/runs/{first}/rerun")
    assert answer.status_code == 202
    second = answer.json()["id"]
    assert [(each["id"], each["args"]) for each in queue.take()] == [(first, [2, 3]), (second, [2, 3])]
    assert anna_api.get(answer["Location"]).json()["parent"] == first


def test_a_run_of_which_nothing_was_kept_is_not_run_again(anna_api: Client, queue: Queue) -> None:
    """409 with the reason; 404 where nothing is known at all."""
    TaskResult.objects.create(task_id="old", task_name="app.tasks.add", task_args="(2, 3)", status="SUCCESS")
    answer = post(anna_api, "/tasks/api/runs/old/rerun")
    assert answer.status_code == 409
    assert answer.json()["error"] == anna_api.get("/tasks/api/runs/old").json()["not_rerunnable"] != ""
    assert post(anna_api, f"/tasks/api/runs/{uuid()}/rerun").status_code == 404
    assert queue.take() == []


def test_a_run_is_revoked(anna_api: Client, queue: Queue) -> None:
    """It says what that did, and the state is the true one at once."""
    run_id = post(anna_api, "/tasks/api/runs", ADD).json()["id"]
    answer = post(anna_api, f"/tasks/api/runs/{run_id}/revoke", {"terminate": True})
    assert (answer.status_code, answer.json()["done"]) == (200, "BEFORE_START")
    assert anna_api.get(f"/tasks/api/runs/{run_id}").json()["state"] == "REVOKED"
    assert post(anna_api, f"/tasks/api/runs/{run_id}/revoke").json()["done"] == "WAS_OVER"
    assert post(anna_api, "/tasks/api/runs/unknown/revoke").status_code == 404
    assert post(anna_api, f"/tasks/api/runs/{run_id}/revoke", {"terminate": "no"}).status_code == 422


def test_the_log_has_what_a_revoke_has_done_and_no_more(anna_api: Client, queue: Queue) -> None:
    """What was not started is not terminated, and what was over is neither."""
    run_id = post(anna_api, "/tasks/api/runs", ADD).json()["id"]
    for _ in range(2):
        post(anna_api, f"/tasks/api/runs/{run_id}/revoke", {"terminate": True})
    assert [entry.change_message for entry in history.entries(run_id)] == ["Started.", "Revoked."]


def test_a_revoke_that_no_worker_heard_of_is_in_the_log(anna_api: Client) -> None:
    """It is noted: workers that start will know. Without a queue the broker of these tests listens nowhere."""
    Dispatch.objects.create(task_id="waits", name="app.tasks.add", args="[2, 3]", kwargs="{}")
    assert post(anna_api, "/tasks/api/runs/waits/revoke").status_code == 503
    assert [entry.change_message for entry in history.entries("waits")] == ["Revoked."]


def test_the_list_is_filtered_and_paged(anna_api: Client, queue: Queue) -> None:
    """Each run once, newest first."""
    ids = [post(anna_api, "/tasks/api/runs", ADD).json()["id"] for _ in range(5)]
    post(anna_api, "/tasks/api/runs", {"task": "app.tasks.daily_report"})
    cursor: str | None = ""
    found: list[str] = []
    while cursor is not None:
        page = anna_api.get(f"/tasks/api/runs?name=app.tasks.add&size=2&cursor={cursor}").json()
        found += [each["id"] for each in page["runs"]]
        cursor = page["older"]
    assert found == ids[::-1]
    assert anna_api.get("/tasks/api/runs", {"state": "SUCCESS"}).json()["runs"] == []
    assert len(queue.take()) == 6


@pytest.mark.parametrize(
    "query",
    [{"size": 0}, {"size": 101}, {"size": "x"}, {"name": "\x00"}, {"state": "\x00"}, {"cursor": "\x00"}],
)
def test_a_list_that_cannot_be_is_refused(query: dict[str, Any], anna_api: Client) -> None:
    """With the name of what is wrong."""
    answer = anna_api.get("/tasks/api/runs", query)
    assert (answer.status_code, list(answer.json()["problems"])) == (422, [f"query.{next(iter(query))}"])


def test_the_tasks_are_listed_with_what_they_take(anna_api: Client) -> None:
    """So that a program can make a form of it."""
    tasks = {task["name"]: task for task in anna_api.get("/tasks/api/tasks").json()}
    assert "celery.backend_cleanup" not in tasks
    assert tasks["app.tasks.post_counter_update"]["parameters"] == [
        {"name": "pk", "kind": "int", "required": False, "default": 1, "variadic": "", "nullable": False}
    ]
    assert {each["kind"] for each in tasks["app.tasks.add"]["parameters"]} == {"number"}
    assert tasks["app.tasks.add"]["description"]
    assert tasks["app.tasks.add"]["app"] == "app"


@pytest.mark.parametrize("words", ["post count", "COUNTER post"])
def test_the_tasks_are_searched_by_words(anna_api: Client, words: str) -> None:
    """Each of them, in any order and however written; the rest is as in the whole list."""
    everything = anna_api.get("/tasks/api/tasks").json()
    found = anna_api.get("/tasks/api/tasks", {"q": words}).json()
    assert [task["name"] for task in found] == ["app.tasks.post_counter_update"]
    assert found[0] in everything
    names = [task["name"] for task in everything]
    assert names == sorted(names)


@pytest.mark.parametrize("path", ["/tasks/api/nothing", "/tasks/api/runs/1/nothing"])
def test_an_address_that_there_is_not(path: str, anna_api: Client) -> None:
    """404: for the second one because there is no run of that id."""
    assert anna_api.get(path).status_code == 404


def test_the_broker_being_away_is_a_503(anna_api: Client) -> None:
    """And nothing is noted as sent. Without a queue the broker of these tests listens nowhere."""
    answer = post(anna_api, "/tasks/api/runs", ADD)
    assert (answer.status_code, answer.json()) == (503, {"error": "The broker is unavailable, nothing was started."})
    assert not Dispatch.objects.exists()


def test_what_json_cannot_say_is_shown_as_text(anna_api: Client) -> None:
    """A result may be whatever Celery's serializer carries, or NaN."""
    for task_id, result in (
        ("nan", "NaN"),
        ("date", '{"__type__": "datetime", "__value__": "2026-03-29T02:30:00+00:00"}'),
    ):
        TaskResult.objects.create(task_id=task_id, task_name="app.tasks.add", status="SUCCESS", result=result)
    assert anna_api.get("/tasks/api/runs/nan").json()["result"] == "nan"
    assert anna_api.get("/tasks/api/runs/date").json()["result"].startswith("2026-03-29T02:30:00")


AWAY = """
import json
from django.test import Client

client = Client(SERVER_NAME="localhost", headers={{"Authorization": "Bearer {token}"}})
answers = [client.get("/tasks/api/runs/1"), client.post("/tasks/api/runs/1/revoke", content_type="application/json")]
print(json.dumps([[answer.status_code, answer.json()["error"]] for answer in answers]))
"""


def test_results_or_a_database_that_are_away_are_a_503(tmp_path: Path, redis_server: Redis) -> None:
    """Said in the answer, for a program to come again."""
    stack = Stack(tmp_path, redis_server)
    assert stack.manage("migrate", "-v0").returncode == 0
    assert stack.manage("createsuperuser", "--noinput", "--username=anna", "--email=").returncode == 0
    ask = AWAY.format(token=stack.manage("api_token", "anna", "tests").stdout.strip())
    stack.variables = {"CELERY_RESULT_BACKEND": "redis://127.0.0.1:1/0"}
    assert stack.ask(ask) == [[503, "The result backend is unavailable."]] * 2
    stack.variables = {"DATABASE_URL": "postgres://site@127.0.0.1:1/site"}
    assert stack.ask(ask) == [[503, "The database is unavailable."]] * 2


# --------------------------------------------------------------------------------------------------
# With a worker, over HTTP
# --------------------------------------------------------------------------------------------------


def ask(stack: Stack, token: str, path: str, body: Any = None) -> Answer:
    """GET a path of the running site, or POST a body to it, as a program would."""
    request = urllib.request.Request(
        stack.url + path,
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return Answer(response.status, response.headers, response.read().decode(), 0)


def test_a_program_starts_a_task_and_reads_its_result(stack: Stack, anna: Visitor) -> None:
    """By its token; run again it gives the same, and a running one is stopped."""
    made = run("python3", "manage.py", "api_token", "anna", "tests", **stack.environment)
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    first = ask(stack, token, "/tasks/api/runs", ADD)
    assert first.status == 202, first.text
    long = ask(stack, token, "/tasks/api/runs", ADD)

    def shown(answer: Answer) -> Any:
        return ask(stack, token, answer.headers["Location"]).json

    eventually(lambda: shown(long)["state"] == "STARTED", what="the long task runs")
    stopped = ask(stack, token, f"{long.headers['Location']}/revoke", {"terminate": True})
    assert stopped.json["done"] == "TERMINATED", stopped.text
    log = f"[entry.change_message for entry in history.entries({long.json['id']!r})]"
    assert stack.ask(f"import json\nfrom celeriac.console import history\nprint(json.dumps({log}))") == [
        "Started.",
        "Terminated.",
    ]
    eventually(lambda: shown(long)["state"] == "REVOKED", what="it is stopped")
    eventually(lambda: shown(first)["state"] == "SUCCESS", what="the task has ended")
    again = ask(stack, token, f"{first.headers['Location']}/rerun", {})
    assert again.status == 202
    eventually(lambda: shown(again)["state"] == "SUCCESS", what="the second one has ended")
    assert shown(first)["result"] == shown(again)["result"] == 5
    assert token.partition(".")[2] not in stack.log("web") + stack.log("worker")
