"""A run knows the entry of the schedule that sent it, and the entry its runs."""

import re
from html import unescape
from typing import Any

import pytest
from celeriac.console import runs
from celeriac.ledger.models import Dispatch
from celeriac.ledger.permissions import VIEW
from celeriac.schedule import scheduler
from celery import current_app
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_results.models import TaskResult

from messages import Queue
from people import member

pytestmark = pytest.mark.django_db

NAME = "nightly: add & more/ä"
LIST = reverse("admin:django_celery_beat_periodictask_changelist")


@pytest.fixture
def entry() -> Any:
    """An entry of the schedule, whose name has to be quoted."""
    interval, _ = IntervalSchedule.objects.get_or_create(every=1, period="hours")
    return PeriodicTask.objects.create(name=NAME, task="app.tasks.add", interval=interval, args="[2, 3]")


@pytest.fixture
def staff(client: Client) -> Client:
    """A browser of a superuser."""
    client.force_login(User.objects.create_superuser("olga"))
    client.defaults["HTTP_ACCEPT"] = "text/html"
    return client


def a_run(number: int = 1, entry: str = NAME, **more: Any) -> str:
    """Put a run into the journal; return its id."""
    return Dispatch.objects.create(
        **{
            "task_id": f"run-{number}",
            "name": "app.tasks.add",
            "args": "[2, 3]",
            "kwargs": "{}",
            "entry": entry,
            **more,
        }
    ).task_id


def page_of(entry: Any) -> str:
    """Return the address of an entry's page in the admin."""
    return reverse("admin:django_celery_beat_periodictask_change", args=[entry.pk])


def links(answer: Any) -> list[str]:
    """Return where a page leads."""
    return [unescape(link) for link in re.findall(r'href="([^"]+)"', answer.content.decode())]


def test_what_beat_sends_is_noted_with_the_entry(entry: Any, queue: Queue) -> None:
    """Before a worker has it, and whichever the result backend is; what code and people send has none."""
    scheduler.DatabaseScheduler(current_app, lazy=True).apply_async(scheduler.ModelEntry(entry), advance=False)
    (message,) = queue.take()
    assert runs.find(message["id"]).entry == NAME
    again = runs.rerun(message["id"], by="anna")
    assert runs.find(again).entry == ""


def test_a_result_knows_the_entry_where_the_journal_does_not() -> None:
    """It was sent before the journal noted that, or by another program."""
    TaskResult.objects.create(task_id="old", task_name="app.tasks.add", status="SUCCESS", periodic_task_name=NAME)
    assert runs.find("old").entry == NAME


def test_a_release_that_does_not_know_the_column_writes_rows() -> None:
    """While it is replaced, and after the migration."""
    a_run()
    known = [
        str(field.column) for field in Dispatch._meta.concrete_fields if field.name not in {"id", "entry", "task_id"}
    ]
    columns = ", ".join(known)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO celeriac_ledger_dispatch (task_id, {columns})"
            f" SELECT 'other', {columns} FROM celeriac_ledger_dispatch"
        )
    assert runs.find("other").entry == ""


def test_list_and_page_of_a_run_lead_to_the_entry_and_its_runs(staff: Client, entry: Any) -> None:
    """And those of an entry that is gone say its name."""
    run_id, of_code, orphan = a_run(), a_run(2, ""), a_run(3, "gone")
    listed = staff.get("/tasks/")
    assert links(listed).count(page_of(entry)) == 1
    assert "gone" in listed.content.decode()
    page = staff.get(f"/tasks/{run_id}/")
    assert page_of(entry) in links(page)
    (its_runs,) = (link for link in links(page) if "?entry=" in link)
    found = staff.get(its_runs)
    assert re.findall(r'id="run-([^"]+)"', found.content.decode()) == [run_id]
    assert page_of(entry) in links(found)
    assert "?entry=" not in staff.get(f"/tasks/{of_code}/").content.decode()
    assert "gone" in staff.get(f"/tasks/{orphan}/").content.decode()


def test_the_filter_stays_with_the_others_and_on_the_next_page(staff: Client, entry: Any) -> None:
    """By form and by link."""
    for number in range(30):
        a_run(number)
        a_run(100 + number, "")
    first = staff.get("/tasks/", {"entry": NAME, "state": "PENDING"})
    (older,) = (link for link in links(first) if "cursor=" in link)
    second = staff.get(f"/tasks/{older}")
    shown = [re.findall(r'id="run-run-(\d+)"', page.content.decode()) for page in (first, second)]
    assert [int(number) for page in shown for number in page] == [*range(29, -1, -1)]
    assert f'name="entry" value="{NAME}"' in unescape(first.content.decode())


def test_who_may_not_see_the_schedule_gets_its_name_and_no_link(client: Client, entry: Any) -> None:
    """The admin would refuse them."""
    run_id = a_run()
    client.force_login(member("anna", VIEW))
    client.defaults["HTTP_ACCEPT"] = "text/html"
    for path in ("/tasks/", f"/tasks/{run_id}/"):
        page = client.get(path)
        assert NAME in unescape(page.content.decode())
        assert page_of(entry) not in links(page)


def test_the_schedule_leads_to_the_runs_of_each_entry(staff: Client, entry: Any) -> None:
    """Exactly those."""
    run_id = a_run()
    a_run(2, "")
    (its_runs,) = (link for link in links(staff.get(LIST)) if link.startswith("/tasks/?entry="))
    assert re.findall(r'id="run-([^"]+)"', staff.get(its_runs).content.decode()) == [run_id]


def test_the_schedule_shows_no_link_to_who_may_not_see_runs(client: Client, entry: Any) -> None:
    """It would lead to a refusal."""
    client.force_login(member("ben", "django_celery_beat.view_periodictask"))
    page = client.get(LIST)
    assert NAME in unescape(page.content.decode())
    assert not [link for link in links(page) if "?entry=" in link]


def test_the_list_asks_for_all_entries_at_once(staff: Client, django_assert_max_num_queries: Any) -> None:
    """One query more than without any."""
    for number in range(25):
        interval, _ = IntervalSchedule.objects.get_or_create(every=1, period="hours")
        PeriodicTask.objects.create(name=f"e{number}", task="app.tasks.add", interval=interval)
        a_run(number, f"e{number}")
    with django_assert_max_num_queries(5):
        assert len([link for link in links(staff.get("/tasks/")) if "/periodictask/" in link]) == 25


def test_programs_ask_for_the_runs_of_an_entry(staff: Client, entry: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """By the API and at a terminal; Celery's own tasks, too, that the schedule sends."""
    a_run()
    a_run(2, "")
    a_run(3, "clean-up", name="celery.backend_cleanup")
    found = staff.get("/tasks/api/runs", {"entry": NAME}).json()["runs"]
    assert [(run["id"], run["entry"]) for run in found] == [("run-1", NAME)]
    call_command("task", "list", "--entry", "clean-up")
    assert "run-3" in capsys.readouterr().out
    assert staff.get("/tasks/api/runs").json()["runs"][-1]["id"] == "run-1"


def test_what_has_ended_and_left_no_result_does_not_wait() -> None:
    """`ignore_result`: nobody looks for it among those that wait."""
    waits, _ = a_run(), a_run(2, ended_at="2026-03-29T12:00:00Z")
    assert [run.id for run in runs.page(state="PENDING").runs] == [waits]
