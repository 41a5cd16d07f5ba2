"""A project gets by one line what neither Celery nor Django has by default, and keeps what it says itself."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

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
    assert app_with(CELERY_BROKER_URL=url).conf.broker_transport_options == {"confirm_publish": True}


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
    assert (ours["CONN_MAX_AGE"], ours["CONN_HEALTH_CHECKS"], ours["OPTIONS"]["transaction_mode"]) == (
        60,
        True,
        "IMMEDIATE",
    )
    assert defaults.database({"ENGINE": "django.db.backends.sqlite3", "CONN_MAX_AGE": 0})["CONN_MAX_AGE"] == 0
