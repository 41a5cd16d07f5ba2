"""The tasks themselves, and what is checked about tasks."""

import time
from typing import Any

import pytest
from celery import current_app
from celery.schedules import crontab

from app import checks, tasks
from app.models import Post
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
    for task in (tasks.add, tasks.post_counter_update):
        assert app.tasks[task.name].run.__qualname__ == task.name.rpartition(".")[2]
        assert task.name.rpartition(".")[0] == task.run.__module__


def test_the_schedule_names_registered_tasks() -> None:
    """The notes register a task under one name and schedule another, which is never run."""
    schedule = app.conf.beat_schedule
    assert schedule["app-post_counter_update"]["schedule"] == crontab()
    for entry in schedule.values():
        assert entry["task"] in app.tasks


def test_the_projects_own_tasks_pass_the_check() -> None:
    """Nothing to report."""
    assert checks.task_time_limits(None) == []


def test_the_check_sees_tasks_that_nothing_has_imported_yet() -> None:
    """A task that no page uses is checked, too."""
    code = (
        "import sys, django; django.setup()\n"
        "from app import checks; from TimeOut.celery import app\n"
        "print('app.tasks' in sys.modules, checks.task_time_limits(None))\n"
        "print('app.tasks.add' in app.tasks)"
    )
    result = run("python3", "-c", code, DJANGO_SETTINGS_MODULE="TimeOut.settings")
    assert result.stdout.split() == ["False", "[]", "True"], result.stderr


@pytest.mark.parametrize(
    ("limits", "identity"),
    [
        ({"time_limit": 3600}, "app.E002"),
        ({"time_limit": 1860}, "app.E002"),
        ({"time_limit": 60}, "app.E001"),
        ({"soft_time_limit": 1800}, "app.E001"),
        ({"time_limit": 60, "soft_time_limit": 30}, None),
        ({"time_limit": 1859}, None),
    ],
)
def test_a_task_with_limits_that_would_run_it_twice_is_refused(
    limits: dict[str, int], identity: str | None, celery_task: Any
) -> None:
    """The default limits are 1620 and 1800 s, and the visibility timeout is 1890 s."""
    celery_task(**limits)
    assert [error.id for error in checks.task_time_limits(None)] == ([identity] if identity else [])
