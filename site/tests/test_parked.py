"""What is parked, and how full the broker is: what staff see, and how a task is released."""

import json
import re
from typing import Any

import pytest
import redis as redis_client
from celeriac.console import broker, runs, tokens
from celeriac.transport.parking import PARKED, unreadable
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.test import Client
from django_celery_results.models import TaskResult
from testkit.redis import Redis
from testkit.waiting import eventually

from conftest import BROKER_DATABASE
from messages import Queue
from people import member
from processes import Stack, Visitor

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client: Client) -> Client:
    """A browser in which a member of staff is logged in."""
    client.force_login(member("anna"))
    client.defaults["HTTP_ACCEPT"] = "text/html"
    return client


@pytest.fixture
def parked(queue: Queue) -> str:
    """A run that did not end five times, and is parked."""
    return park(queue)


def park(queue: Queue, times: int = 5) -> str:
    """Send a run and park it, with the state that it has then; return its id."""
    run_id = runs.start("app.tasks.add", [2, 3], priority=7)
    queue.park(run_id, times)
    fail(run_id, "WorkerLostError", f"process 1 on here ended; not ended {times} times, parked")
    return run_id


def fail(run_id: str, kind: str, why: str) -> None:
    """Let a run have failed."""
    TaskResult.objects.create(
        task_id=run_id,
        status="FAILURE",
        content_type="application/json",
        content_encoding="utf-8",
        result=json.dumps({"exc_type": kind, "exc_message": [why], "exc_module": "billiard.exceptions"}),
    )


def can_be_released(staff: Client, run_id: str) -> bool:
    """Return whether the page of a run offers it."""
    return f'action="/tasks/{run_id}/release/"' in staff.get(f"/tasks/{run_id}/").content.decode()


# ==================================================================================================
# The console
# ==================================================================================================


@pytest.mark.parametrize(
    ("language", "text"),
    [("en", "Parked: it ended its process 5 times."), ("ru", "Отложена: она завершила свой процесс 5 раз.")],
)
def test_the_page_of_a_parked_run_says_so(staff: Client, parked: str, language: str, text: str) -> None:
    """And offers to release it."""
    assert text in staff.get(f"/tasks/{parked}/", headers={"accept-language": language}).content.decode()
    assert can_be_released(staff, parked)


def test_a_run_that_is_not_parked_is_not_released_by_its_page(staff: Client, parked: str) -> None:
    """It failed in its own way, or so that it was parked and was released since."""
    own, since = (runs.start("app.tasks.add", [2, 3]) for _ in range(2))
    fail(own, "ValueError", "nothing was parked")
    fail(since, "WorkerLostError", "process 1 on here ended; not ended 5 times, parked")
    assert [can_be_released(staff, run_id) for run_id in (own, since, parked)] == [False, False, True]


def test_who_releases_a_run_lets_it_wait_in_its_queue_and_is_in_the_admins_log(
    staff: Client, parked: str, queue: Queue
) -> None:
    """Once: who does it a second time is told, and nothing is sent."""
    for released in (True, False):
        answer = staff.post(f"/tasks/{parked}/release/")
        assert answer["Location"] == f"/tasks/{parked}/"
        assert [message["id"] for message in queue.take()] == [parked] * released
        (notice,) = re.findall(r'class="notice (\w+)" role="status"', staff.get(f"/tasks/{parked}/").content.decode())
        assert notice == ("success" if released else "error")
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.change_message) == ("anna", "Released, to run again.")
    assert not can_be_released(staff, parked)


def test_the_page_of_graphs_shows_how_many_are_parked_and_how_full_the_broker_is(
    staff: Client, parked: str, redis_server: Redis
) -> None:
    """In percent, where Redis has a limit."""
    assert staff.get("/tasks/graphs/").context["broker"] == broker.Broker(parked=1, percent=None)
    with redis_client.Redis.from_url(redis_server.database(0)) as redis:
        redis.config_set("maxmemory", 4 * redis.info("memory")["used_memory"])
        try:
            page = staff.get("/tasks/graphs/")
        finally:
            redis.config_set("maxmemory", 0)
    shown = page.context["broker"]
    assert 10 < shown.percent < 60
    facts = dict(re.findall(r"<dt>([^<]+)</dt><dd>(?:<[^>]+>)?([^<]+)<", page.content.decode()))
    assert facts["Parked: ended their process too often"] == "1"
    assert facts["The broker is full to"] == f"{shown.percent} %"


def test_without_an_answer_of_the_broker_the_pages_are_there(
    staff: Client, parked: str, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They leave out what they do not know."""
    monkeypatch.setenv("CELERY_BROKER_URL", f"redis://127.0.0.1:{silent_port}/0")
    page = staff.get("/tasks/graphs/")
    assert (page.status_code, page.context["broker"]) == (200, None)
    assert not can_be_released(staff, parked)
    assert staff.post(f"/tasks/{parked}/release/").status_code == 302
    assert not LogEntry.objects.exists()


# ==================================================================================================
# Programs
# ==================================================================================================


def test_a_program_releases_a_run_by_the_api(client: Client, parked: str, queue: Queue) -> None:
    """Once, and it is in the log."""
    token = tokens.create(member("anna"), "tests")
    answers = [
        client.post(f"/tasks/api/runs/{parked}/release", headers={"Authorization": f"Bearer {token}"}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 404]
    assert answers[0].json() == {"id": parked, "url": f"/tasks/api/runs/{parked}"}
    assert [message["id"] for message in queue.take()] == [parked]
    assert LogEntry.objects.get().change_message == "Released, to run again."


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Return what `manage.py task` prints as JSON."""
    call_command("task", *arguments, "--json")
    return json.loads(capsys.readouterr().out)


def test_what_is_parked_is_listed_the_longest_first(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    """With all that is known; the queue by its name, whatever the priority."""
    run_ids = [park(queue, times) for times in range(1, 9)]  # so many that they are in no order by themselves
    found = ask(capsys, "parked")
    assert [(each["task_id"], each["times"]) for each in found] == [*zip(run_ids, range(1, 9), strict=True)]
    assert {(each["task"], each["reason"], each["queue"]) for each in found} == {
        ("app.tasks.add", "process 1 on here ended", "celery")
    }
    call_command("task", "parked")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == run_ids


def test_some_are_released_and_all_others_with_all(
    queue: Queue, capsys: pytest.CaptureFixture[str], redis_server: Redis
) -> None:
    """What is no message, too: by the name that the list shows."""
    run_ids = [park(queue) for _ in range(4)]
    assert ask(capsys, "release", *run_ids[:2]) == {"released": run_ids[:2], "not_parked": []}
    assert {message["id"] for message in queue.take()} == {*run_ids[:2]}
    with redis_client.Redis.from_url(redis_server.database(BROKER_DATABASE)) as redis:
        redis.hset(PARKED, "a-tag", unreadable("no message", "elsewhere"))
        call_command("task", "parked")
        (name,) = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("(elsewhere)")]
        call_command("task", "release", name)
        assert redis.lrange("elsewhere", 0, -1) == [b"no message"]
    capsys.readouterr()
    assert len(ask(capsys, "release", "--all")["released"]) == 2
    assert {message["id"] for message in queue.take()} == {*run_ids[2:]}
    assert ask(capsys, "parked") == []
    assert ask(capsys, "release", "--all")["released"] == []


def test_one_that_is_not_parked_keeps_no_other_from_being_released(parked: str, queue: Queue) -> None:
    """It is named, and the exit code says so."""
    with pytest.raises(BaseException, match="nobody") as caught:
        call_command("task", "release", "nobody", parked)
    assert getattr(caught.value, "returncode", None) == 3
    assert [message["id"] for message in queue.take()] == [parked]


# ==================================================================================================
# For real
# ==================================================================================================

# At once: it takes five seconds, and a busy computer to begin a command as many.
KILLED = """
import json, os, signal, time
from celeriac.console import runs
from django_celery_results.models import TaskResult
run_id = runs.start("app.tasks.add", [2, 3])
deadline = time.monotonic() + 120
while runs.find(run_id).state != "STARTED":
    assert time.monotonic() < deadline, runs.find(run_id)
    time.sleep(0.05)
os.kill(json.loads(TaskResult.objects.get(task_id=run_id).result)["pid"], signal.SIGKILL)
print(json.dumps(run_id))
"""


def test_a_task_that_lost_its_process_is_parked_released_and_succeeds(worker_stack: Stack) -> None:
    """With a worker as on a host; the first time is too often here."""
    worker_stack.variables |= {"CELERIAC_CELERY_APP": "TimeOut", "DJANGO_SETTINGS_MODULE": "TimeOut.settings"}
    worker_stack.spawn(
        *("worker", "celery", "-A", "celeriac.app", "worker", "--loglevel=info", "--concurrency=1"),
        CELERIAC_TASK_DELIVERIES="1",
        CELERIAC_RELEASE="0123456789ab",
    )
    eventually(lambda: " ready." in worker_stack.log("worker"), what="the worker is ready")
    run_id = worker_stack.ask(KILLED)

    def command(*arguments: str) -> Any:
        done = worker_stack.manage("task", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    (found,) = eventually(lambda: command("parked"), what="it is parked")
    assert (found["task_id"], found["times"], found["queue"]) == (run_id, 1, "celery")
    eventually(lambda: command("show", run_id)["error"].endswith("parked"), what="it has failed")
    assert command("release", run_id) == {"released": [run_id], "not_parked": []}
    eventually(lambda: command("show", run_id)["result"] == 5, what="it has run")
    assert command("parked") == []


def test_a_full_broker_is_named_by_health_and_is_no_503(idle_stack: Stack) -> None:
    """Nothing can be sent, all else is there; and it is well again by itself."""
    anna = Visitor(idle_stack.url)
    anna.log_in()
    with redis_client.Redis.from_url(idle_stack.redis.database(0)) as redis:
        redis.config_set("maxmemory", "1mb")
        full = anna.ask("/health/")
        assert (full.status, full.json) == (200, {"database": "ok", "broker": "full"})
        assert anna.ask("/tasks/add/", {"x": 1, "y": 2}).status == 503
        redis.config_set("maxmemory", 0)
    assert anna.ask("/health/").json == {"database": "ok", "broker": "ok"}
    assert anna.ask("/tasks/add/", {"x": 1, "y": 2}).status == 202
