"""The tasks themselves, and what is checked about tasks."""

import inspect
import json
import time
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from celeriac.checks.limits import task_time_limits
from celeriac.console.tasks import prune
from celeriac.ledger.models import Dispatch
from celery import current_app
from celery.schedules import crontab
from django.conf import LazySettings
from django.contrib.sessions.models import Session
from django.core.checks import WARNING
from django.utils import timezone

from app import reports, tasks
from app.models import DailyReport, Post
from processes import run
from TimeOut.celery import app


@pytest.fixture
def celery_task() -> Any:
    """Register a task with limits of its own; forget it afterwards."""
    name = "tests.limited"

    def register(**options: Any) -> None:
        @current_app.task(name=name, **options)
        def limited() -> None:
            pass

    yield register
    current_app.tasks.pop(name)


def test_add_returns_the_sum_after_its_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole number stays one."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert tasks.add(2, 3) == 5
    assert slept == [5]


@pytest.mark.django_db
def test_a_view_is_counted_by_the_database_in_one_statement(
    django_assert_num_queries: Any,
) -> None:
    """Nothing is read first, so two workers cannot read the same number."""
    with django_assert_num_queries(1):
        assert tasks.post_counter_update() == 1
    assert Post.objects.get(pk=1).view_count == 1


@pytest.mark.django_db
def test_a_missing_post_is_no_error() -> None:
    """Somebody deleted it in the admin: the schedule goes on, nothing is counted."""
    other = Post.objects.create(title="Other")
    Post.objects.filter(pk=1).delete()
    assert tasks.post_counter_update() == 0
    other.refresh_from_db()
    assert other.view_count == 0


def test_every_task_is_registered_under_its_module_path() -> None:
    """So the schedule, the logs and the code call it the same."""
    ours = [task for name, task in app.tasks.items() if name.startswith("app.")]
    assert len(ours) > 10
    for task in ours:
        assert inspect.unwrap(task.run).__qualname__ == task.name.rpartition(".")[2]
        assert task.name.rpartition(".")[0] == inspect.unwrap(task.run).__module__


def test_the_schedule_names_registered_tasks() -> None:
    """The notes register a task under one name and schedule another, which is never run."""
    schedule = app.conf.beat_schedule
    assert schedule["app-post_counter_update"]["schedule"] == crontab()
    for entry in schedule.values():
        assert entry["task"] in app.tasks


@pytest.fixture
def own_visibility_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A project that says itself how long Redis waits: for 2000 s."""
    options = {**current_app.conf.broker_transport_options, "visibility_timeout": 2000}
    monkeypatch.setitem(current_app.conf, "broker_transport_options", options)


def test_the_projects_own_tasks_pass_the_check() -> None:
    """Nothing to report."""
    assert task_time_limits(None) == []


def test_the_check_sees_tasks_that_nothing_has_imported_yet() -> None:
    """A task that no page uses is checked, too."""
    code = (
        "import sys, django; django.setup()\n"
        "from celeriac.checks.limits import task_time_limits; from TimeOut.celery import app\n"
        "print('app.tasks' in sys.modules, task_time_limits(None))\n"
        "print('app.tasks.add' in app.tasks)"
    )
    result = run("python3", "-c", code, DJANGO_SETTINGS_MODULE="TimeOut.settings")
    assert result.stdout.split() == ["False", "[]", "True"], result.stderr


@pytest.mark.parametrize(
    ("limits", "identity"),
    [
        ({"time_limit": 3600}, "celeriac.I031"),
        ({"time_limit": 1970}, "celeriac.I031"),
        ({"time_limit": 60}, "celeriac.E030"),
        ({"soft_time_limit": 1800}, "celeriac.E030"),
        ({"time_limit": 60, "soft_time_limit": 30}, None),
        ({"time_limit": 1969}, None),
    ],
)
def test_a_task_with_limits_in_the_wrong_order_is_refused_and_a_long_one_only_named(
    limits: dict[str, int], identity: str | None, celery_task: Any, own_visibility_timeout: None
) -> None:
    """The default limits are 1620 and 1800 s, and a worker has 30 s more to stop."""
    celery_task(**limits)
    found = task_time_limits(None)
    assert [error.id for error in found] == ([identity] if identity else [])
    # A deployment fails from a warning on.
    assert [error.is_serious(WARNING) for error in found] == [identity == "celeriac.E030"] * len(found)


def test_without_leases_a_task_that_would_run_twice_is_refused(
    celery_task: Any, own_visibility_timeout: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With kombu's own transport a message belongs to whoever asks after the visibility timeout."""
    monkeypatch.setenv("CELERIAC_REDIS_TRANSPORT", "stock")
    celery_task(time_limit=1970)
    (error,) = task_time_limits(None)
    assert (error.id, error.is_serious()) == ("celeriac.E031", True)
    assert "CELERIAC_REDIS_TRANSPORT=stock" in str(error.hint)


def test_the_projects_tasks_pass_where_an_operator_allows_little() -> None:
    """A task with a limit of its own that is far above that of the settings would stop the deployment."""
    done = run("python3", "manage.py", "check", CELERY_TASK_TIME_LIMIT="10")
    assert done.returncode == 0, done.stderr


@pytest.mark.django_db
def test_a_report_is_made_once_a_day_and_sent_after_it_is_kept(
    settings: LazySettings, django_capture_on_commit_callbacks: Any, broker: None
) -> None:
    """Delivered twice, the task neither writes nor sends again."""
    settings.DAILY_REPORT_TO = ["boss@example.org", "chef@example.org"]
    Post.objects.filter(pk=1).update(view_count=7)
    with django_capture_on_commit_callbacks() as waiting:
        text = tasks.daily_report()
    assert Dispatch.objects.count() == 0, "sent before the report is kept"
    assert len(waiting) == 2
    for send in waiting:
        send()
    report = DailyReport.objects.get()
    assert report.day == timezone.localdate() - timedelta(days=1)
    assert report.text == text
    assert "7 view(s)" in text
    sent = [json.loads(each.args or "") for each in Dispatch.objects.order_by("pk")]
    assert sent == [[to, f"Report of {report.day}", text] for to in settings.DAILY_REPORT_TO]
    with django_capture_on_commit_callbacks() as waiting:
        assert tasks.daily_report() is None
    assert (waiting, DailyReport.objects.count()) == ([], 1)


@pytest.mark.django_db
def test_the_report_counts_the_day_of_the_sites_zone(settings: LazySettings) -> None:
    """From midnight to midnight there."""
    with timezone.override("Pacific/Auckland"):
        day = date(2026, 7, 1)
        for number, at in enumerate(["2026-06-30T11:59", "2026-06-30T12:00", "2026-07-01T11:59", "2026-07-01T12:00"]):
            Dispatch.objects.create(task_id=f"{number}", name="x", sent_at=datetime.fromisoformat(f"{at}+00:00"))
        assert "2 task(s) sent" in reports.write(day)


@pytest.mark.django_db
def test_only_sessions_that_are_over_are_deleted() -> None:
    """Nobody who is logged in is thrown out."""
    now = timezone.now()
    Session.objects.create(session_key="old", session_data="", expire_date=now - timedelta(seconds=1))
    Session.objects.create(session_key="new", session_data="", expire_date=now + timedelta(hours=1))
    tasks.clear_expired_sessions()
    assert [session.session_key for session in Session.objects.all()] == ["new"]


@pytest.mark.django_db
def test_old_runs_are_forgotten_by_the_task_of_the_schedule() -> None:
    """Those that are kept longer than their results."""
    Dispatch.objects.create(task_id="old", name="x", sent_at=timezone.now() - timedelta(days=8))
    Dispatch.objects.create(task_id="new", name="x")
    assert prune() == 1
    assert [row.task_id for row in Dispatch.objects.all()] == ["new"]
