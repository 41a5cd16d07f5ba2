"""A project gets by one line what neither Celery nor Django has by default, and keeps what it says itself."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django
import pytest
from celery import Celery
from django.conf import settings
from django.db import ConnectionHandler

from celeriac import defaults, priorities


def app_with(**settings: Any) -> Celery:
    """Return an app with these settings, read as those of Django are, and ours added."""
    app = Celery("project", set_as_current=False)
    app.config_from_object(SimpleNamespace(**settings), namespace="CELERY")
    defaults.add(app)
    return app


def test_a_project_gets_what_its_settings_do_not_say() -> None:
    conf = app_with(CELERY_BROKER_URL="redis://broker.example/0").conf
    assert (conf.task_acks_late, conf.task_reject_on_worker_lost, conf.worker_prefetch_multiplier) == (True, True, 1)
    assert conf.broker_connection_max_retries is None
    assert conf.broker_transport_options["socket_timeout"] == conf.redis_socket_timeout == 10
    assert next(iter(conf.broker_transport_options["priority_steps"])) == priorities.HIGHEST


@pytest.mark.parametrize("wanted", [{"CELERY_TASK_ACKS_LATE": False}, {"CELERY_WORKER_PREFETCH_MULTIPLIER": 4}])
def test_what_a_project_says_stays(wanted: dict[str, Any]) -> None:
    conf = app_with(**wanted).conf
    assert {name: conf[name.removeprefix("CELERY_").lower()] for name in wanted} == wanted


def test_options_of_the_broker_that_a_project_has_stay_as_they_are() -> None:
    assert app_with(CELERY_BROKER_TRANSPORT_OPTIONS={"a": 1}).conf.broker_transport_options == {"a": 1}


def test_what_a_project_says_of_redis_holds_for_the_broker_too() -> None:
    conf = app_with(CELERY_BROKER_URL="redis://broker.example/0", CELERY_REDIS_SOCKET_TIMEOUT=3).conf
    assert conf.broker_transport_options["socket_timeout"] == 3


@pytest.mark.parametrize(
    ("limits", "visibility"),
    [
        ({}, None),
        ({"CELERY_TASK_TIME_LIMIT": 100}, 160),
        ({"CELERY_TASK_TIME_LIMIT": 100, "CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT": 30}, 190),
    ],
)
def test_redis_waits_longer_than_a_task_may_take(limits: dict[str, int], visibility: int | None) -> None:
    options = app_with(CELERY_BROKER_URL="redis://broker.example/0", **limits).conf.broker_transport_options
    assert options.get("visibility_timeout") == visibility


@pytest.mark.parametrize("url", ["amqp://rabbit.example//", None])
def test_rabbitmq_confirms_and_is_told_nothing_of_redis(url: str | None) -> None:
    """It is Celery's own choice where there is none."""
    options = app_with(CELERY_BROKER_URL=url).conf.broker_transport_options
    assert options == {"confirm_publish": True, "read_timeout": 10, "write_timeout": 10}


@pytest.mark.parametrize(
    ("found", "options"),
    [
        ({"ENGINE": "django.db.backends.postgresql"}, {"connect_timeout": 5}),
        (
            {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"connect_timeout": 9, "sslmode": "require"}},
            {"connect_timeout": 9, "sslmode": "require"},
        ),
        ({"ENGINE": "backend.of.the.project"}, {}),
    ],
)
def test_a_database_has_the_options_of_its_kind_below_its_own(found: dict[str, Any], options: dict[str, Any]) -> None:
    assert defaults.database(found)["OPTIONS"] == options


def test_connections_are_kept_and_tested_unless_the_project_says_otherwise() -> None:
    ours = defaults.database({"ENGINE": "django.db.backends.sqlite3"})
    assert (ours["CONN_MAX_AGE"], ours["CONN_HEALTH_CHECKS"]) == (60, True)
    assert defaults.database({"ENGINE": "django.db.backends.sqlite3", "CONN_MAX_AGE": 0})["CONN_MAX_AGE"] == 0


def test_django_takes_what_is_said_of_sqlite(tmp_path: Path) -> None:
    found = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3")}
    database = ConnectionHandler({"default": defaults.database(found)})["default"]
    database.ensure_connection()
    (mode,) = database.connection.execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal" if django.VERSION >= (5, 1) else "delete")
    database.close()


def laid(variables: dict[str, str] | None = None, **settings: Any) -> Any:
    """Return the settings of an app with these, on which what is promised was laid, twice."""
    app = Celery("project", set_as_current=False)
    app.config_from_object(SimpleNamespace(**settings), namespace="CELERY")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (variables or {}).items():
            environment.setenv(name, value)
        defaults.lay(app, retries=20)
        defaults.lay(app, retries=20)
    return app.conf


REDIS = {"CELERY_BROKER_URL": "redis://broker.example/0"}
INVENTORY = {
    "CELERIAC_TASK_TIME_LIMIT": "1800",
    "CELERIAC_TASK_SOFT_TIME_LIMIT": "1500",
    "CELERIAC_WORKER_SOFT_SHUTDOWN_TIMEOUT": "10",
}


def test_the_project_of_these_tests_says_nothing() -> None:
    """So a promise that they show a worker to keep is kept without a setting."""
    said = {name for name in dir(settings) if name.startswith("CELERY_")}
    assert said == {"CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"}


def test_what_keeps_a_promise_is_laid_on_a_project_that_says_nothing() -> None:
    conf = laid(INVENTORY, **REDIS)
    assert conf.broker_connection_max_retries is None
    assert conf.task_publish_retry_policy["max_retries"] == 20
    assert (conf.task_time_limit, conf.task_soft_time_limit, conf.worker_soft_shutdown_timeout) == (1800, 1500, 10)
    options = conf.broker_transport_options
    assert (options["socket_timeout"], options["socket_keepalive"], options["visibility_timeout"]) == (10, True, 1870)


def test_what_is_of_taste_is_not() -> None:
    untouched, conf = Celery(set_as_current=False).conf, laid(INVENTORY, **REDIS)
    for name in ("task_queue_max_priority", "task_routes", "worker_send_task_events", "worker_hijack_root_logger"):
        assert conf[name] == untouched[name]
    assert "priority_steps" not in conf.broker_transport_options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("broker_connection_max_retries", 3),
        ("redis_socket_timeout", 33),
        ("task_publish_retry_policy", {"max_retries": 1}),
        ("worker_soft_shutdown_timeout", 99),
        ("worker_soft_shutdown_timeout", 0),
    ],
)
def test_it_is_not_laid_over_what_a_project_says(name: str, value: Any) -> None:
    assert laid(INVENTORY, **REDIS, **{f"CELERY_{name.upper()}": value})[name] == value


def test_options_of_the_broker_are_completed_one_by_one() -> None:
    own = {"visibility_timeout": 7, "socket_timeout": 8, "global_keyprefix": "mine."}
    options = laid(INVENTORY, **REDIS, CELERY_BROKER_TRANSPORT_OPTIONS=own).broker_transport_options
    assert {name: options[name] for name in own} == own
    assert options["socket_connect_timeout"] == 5


@pytest.mark.parametrize("own", [{"CELERY_TASK_TIME_LIMIT": 3600}, {"CELERY_TASK_SOFT_TIME_LIMIT": 60}])
def test_a_project_with_a_limit_gets_none_of_the_inventory(own: dict[str, int]) -> None:
    """What it lets run for an hour would be asked to end after a part of it."""
    conf = laid(INVENTORY, **REDIS, **own)
    limits = {name: conf[name] for name in ("task_time_limit", "task_soft_time_limit") if conf[name]}
    assert limits == {name.removeprefix("CELERY_").lower(): value for name, value in own.items()}


def test_redis_waits_longer_than_the_limit_of_the_project() -> None:
    options = laid(INVENTORY, **REDIS, CELERY_TASK_TIME_LIMIT=100).broker_transport_options
    assert options["visibility_timeout"] == 100 + 10 + 60


def test_redis_waits_longer_than_the_limit_of_any_pool() -> None:
    options = laid({**INVENTORY, "CELERIAC_LONGEST_TASK_TIME_LIMIT": "9999"}, **REDIS).broker_transport_options
    assert options["visibility_timeout"] == 9999 + 10 + 60


LONG = {"time_limit": 7200}


def work() -> None:
    """Be the body of a task."""


@pytest.mark.parametrize(
    ("settings", "of_task", "seconds"),
    [
        ({}, LONG, 7200 + 10 + 60),
        ({"CELERY_TASK_TIME_LIMIT": 100}, LONG, 7200 + 10 + 60),
        ({"CELERY_TASK_TIME_LIMIT": 100}, {"soft_time_limit": 7200}, 7200 + 10 + 60),
        ({"CELERY_TASK_TIME_LIMIT": 100}, {"default_retry_delay": 7200}, 100 + 7200 + 10 + 60),
        ({"CELERY_TASK_ANNOTATIONS": {"long": LONG}}, {}, 7200 + 10 + 60),
        ({}, {"time_limit": 60, "default_retry_delay": None}, 1800 + 10 + 60),
        ({"CELERY_BROKER_TRANSPORT_OPTIONS": {"visibility_timeout": 7}}, LONG, 7),
        ({"CELERY_BROKER_URL": "amqp://rabbit.example//"}, LONG, None),
    ],
)
@pytest.mark.parametrize("sooner", [False, True])
def test_redis_waits_for_a_task_with_a_longer_limit_of_its_own(
    settings: dict[str, Any], of_task: dict[str, Any], seconds: int | None, sooner: bool
) -> None:
    """Also for one that the app had before anything was laid on it."""
    app = Celery("project", set_as_current=False)
    app.config_from_object(SimpleNamespace(**{**REDIS, **settings}), namespace="CELERY")

    def add() -> None:
        app.task(work, shared=False, name="long", lazy=False, **of_task)
        app.task(work, shared=False, name="short", lazy=False, time_limit=30)

    with pytest.MonkeyPatch.context() as environment:
        for name, value in INVENTORY.items():
            environment.setenv(name, value)
        if sooner:
            add()
        defaults.lay(app, retries=20)
    if not sooner:
        add()
    assert app.conf.broker_transport_options.get("visibility_timeout") == seconds


def test_redis_waits_for_the_longest_at_a_desk_too() -> None:
    """And never for less than it does by default."""
    app = app_with(CELERY_BROKER_URL="redis://broker.example/0")
    app.task(work, shared=False, name="short", lazy=False, time_limit=60)
    assert "visibility_timeout" not in app.conf.broker_transport_options
    app.task(work, shared=False, name="long", lazy=False, **LONG)
    app.task(work, shared=False, name="longest", lazy=False, time_limit=9000)
    assert app.conf.broker_transport_options["visibility_timeout"] == 9000 + 60


def test_the_broker_of_celerys_own_variable_is_the_one_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://broker.example/0")
    assert laid().broker_transport_options["socket_timeout"] == 10
