"""Who may see and do what: page by page, address by address."""

import json
from typing import Any

import pytest
from celeriac.console import tokens
from celeriac.ledger.models import Dispatch
from celeriac.ledger.permissions import CHANGE, START, VIEW
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from messages import Queue
from people import member

pytestmark = pytest.mark.django_db

ALL = (VIEW, START, CHANGE)
HTML = "text/html,application/xhtml+xml,*/*;q=0.8"
# Each page and each action of the console, and what it needs.
CONSOLE = [
    ("get", "/tasks/", VIEW),
    ("get", "/tasks/graphs/", VIEW),
    ("get", "/tasks/a/", VIEW),
    ("get", "/tasks/start/", START),
    ("get", "/tasks/start/app.tasks.add/", START),
    ("post", "/tasks/start/app.tasks.add/", START),
    ("get", "/tasks/emails/", START),
    ("post", "/tasks/emails/", START),
    ("post", "/tasks/add/", START),
    ("post", "/tasks/a/rerun/", START),
    ("get", "/tasks/a/revoke/", CHANGE),
    ("post", "/tasks/a/revoke/", CHANGE),
    ("get", "/tasks/a/terminate/", CHANGE),
    ("post", "/tasks/a/terminate/", CHANGE),
    ("post", "/tasks/a/release/", CHANGE),
]
API = [
    ("get", "/tasks/api/", VIEW),
    ("get", "/tasks/api/openapi.json", VIEW),
    ("get", "/tasks/api/tasks", VIEW),
    ("get", "/tasks/api/runs", VIEW),
    ("get", "/tasks/api/runs/a", VIEW),
    ("post", "/tasks/api/runs", START),
    ("post", "/tasks/api/runs/a/rerun", START),
    ("post", "/tasks/api/runs/a/revoke", CHANGE),
    ("post", "/tasks/api/runs/a/release", CHANGE),
]
EVERYTHING = pytest.mark.parametrize(("method", "path", "needed"), [*CONSOLE, *API])


@pytest.fixture
def sent(queue: Queue) -> Queue:
    """A broker, and a run of `add` under the id `a`."""
    Dispatch.objects.create(task_id="a", name="app.tasks.add", args="[2, 3]", kwargs="{}")
    return queue


def ask(user: User, method: str, path: str) -> Any:
    """Ask as a user's browser does, with what starts a task."""
    client = Client(headers={"accept": HTML})
    client.force_login(user)
    if method == "get":
        return client.get(path)
    if path.startswith("/tasks/api/"):
        return client.post(path, json.dumps({"task": "app.tasks.add", "args": [2, 3]}), "application/json")
    return client.post(path, {"arg-x": "2", "arg-y": "3", "x": "2", "y": "3"})


@EVERYTHING
def test_who_lacks_a_permission_is_told_which(method: str, path: str, needed: str, sent: Queue) -> None:
    """With all the others; and nothing was done."""
    answer = ask(member("ben", *({*ALL, "none"} - {needed})), method, path)
    assert answer.status_code == 403
    assert needed in answer.content.decode()
    assert sent.take() == []
    assert not LogEntry.objects.exists()


@EVERYTHING
def test_the_permission_alone_is_enough(method: str, path: str, needed: str, sent: Queue) -> None:
    """None of the others is needed beside it."""
    assert ask(member("ben", needed), method, path).status_code != 403


@EVERYTHING
def test_a_superuser_may_everything_and_who_is_not_staff_nothing(
    method: str, path: str, needed: str, sent: Queue
) -> None:
    """As before there were permissions."""
    assert ask(User.objects.create_superuser("olga"), method, path).status_code != 403
    visitor = User.objects.create_user("visitor")
    visitor.user_permissions.set(Permission.objects.filter(content_type__app_label="celeriac_ledger"))
    answer = ask(visitor, method, path)
    assert answer.status_code == 403 or answer["Location"].startswith("/admin/login/")


def addresses(patterns: list[Any], prefix: str = "") -> set[str]:
    """Return every address below some patterns, as the URLconf writes it."""
    found: set[str] = set()
    for each in patterns:
        path = f"{prefix}{each.pattern}"
        if isinstance(each, URLResolver):
            found |= addresses(each.url_patterns, path)
        elif isinstance(each, URLPattern):
            found.add(path)
    return found


def test_no_address_is_left_out_of_these_tests() -> None:
    """One that is new has to be decided on."""
    known = {
        path.lstrip("/").replace("/a/", "/<celeriac-text:run_id>/").replace("app.tasks.add", "<celeriac-text:name>")
        for _, path, _ in CONSOLE
    }
    known |= {path.lstrip("/").replace("runs/a", "runs/<path:run_id>") for _, path, _ in API}
    known.add("tasks/api/<celeriac-text:address>")  # says to everybody that there is nothing
    below = {path for path in addresses(get_resolver().url_patterns) if path.startswith(("tasks/", "api/"))}
    assert below - known == set()


@pytest.mark.parametrize(("permission", "status"), [(VIEW, 403), (START, 202)])
def test_a_token_is_worth_what_its_user_may(permission: str, status: int, queue: Queue) -> None:
    """And not more."""
    token = tokens.create(member("ben", permission), "tests")
    program = Client(headers={"Authorization": f"Bearer {token}"})
    answer = program.post("/tasks/api/runs", json.dumps({"task": "app.tasks.add", "args": [2, 3]}), "application/json")
    assert answer.status_code == status
    assert len(queue.take()) == (status == 202)


def test_a_program_without_the_permission_gets_json(sent: Queue) -> None:
    """On the address that is a page to a browser."""
    client = Client(headers={"accept": "application/json"})
    client.force_login(member("ben", START))
    assert client.get("/tasks/a/").status_code == 403
    assert VIEW in client.get("/tasks/a/").json()["error"]


def test_the_home_page_hides_runs_from_staff_without_the_permission(client: Client, sent: Queue) -> None:
    """As from a stranger."""
    client.force_login(member("ben", START))
    assert "/tasks/a/" not in client.get("/").content.decode()
    assert "hx-get" not in client.get("/").content.decode()


SCHEDULE = "/admin/django_celery_beat/periodictask/"


@pytest.mark.parametrize("action", ["run_tasks", "enable_tasks", "disable_tasks", "toggle_tasks"])
def test_who_may_only_look_at_the_schedule_changes_and_starts_nothing(
    action: str, client: Client, queue: Queue
) -> None:
    """The library offers its actions to everybody who sees the list."""
    every = IntervalSchedule.objects.create(every=1, period="hours")
    entry = PeriodicTask.objects.create(
        name="mine", task="app.tasks.add", interval=every, args="[1, 1]", enabled=action != "enable_tasks"
    )
    client.force_login(member("ben", "django_celery_beat.view_periodictask"))
    client.post(SCHEDULE, {"action": action, "_selected_action": [entry.pk]})
    assert PeriodicTask.objects.get(pk=entry.pk).enabled is entry.enabled
    assert queue.take() == []
