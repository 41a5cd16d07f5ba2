"""Celery's own scheduler under ours: the schedule is in the settings, and a file has its runs."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from beats import HOURLY, Arrivals, arrivals, beat, with_schedule
from supervised import Supervised
from test_beat_lease import STANDBY, arrived, environment, gaps, lose_and_regain
from testkit.redis import Redis
from testkit.waiting import comes_true

__all__ = ["environment"]  # the fixture: PostgreSQL with the schema, and Redis


def in_settings(environment: dict[str, str], **seconds: float) -> dict[str, str]:
    """Return an environment in which the project has these entries, and Celery's scheduler for them."""
    entries = {
        name: {"task": "celeriac.ping", "schedule": every, "options": {"headers": {"periodic_task_name": name}}}
        for name, every in seconds.items()
    }
    policy = {"max_retries": 100, "interval_max": 1}
    own: dict[str, Any] = {"CELERY_BEAT_SCHEDULER": "celery.beat:PersistentScheduler"}
    return with_schedule(environment, entries, CELERY_TASK_PUBLISH_RETRY_POLICY=policy, **own)


def file_of(environment: dict[str, str]) -> Path:
    """Return where a beat keeps the runs: it has been told so by its command line."""
    return Path(environment["SCRATCH"]) / "runs"


def runs(environment: dict[str, str]) -> dict[str, int]:
    """Return how often each entry was sent, as the file knows it."""
    return {name: count for name, (_, count) in json.loads(file_of(environment).read_text()).items()}


def make_due(environment: dict[str, str], *names: str) -> None:
    """Let entries be due that are so once an hour, while no beat runs."""
    long_ago = datetime.now(UTC) - timedelta(seconds=2 * HOURLY)
    file_of(environment).write_text(json.dumps({name: (long_ago.isoformat(), 0) for name in names}))


def assert_sent_by_one(environment: dict[str, str], sends: Arrivals, *names: str) -> None:
    """Check that what was sent is what the file knows of: of two that send, it would know half."""
    assert comes_true(lambda: {name: len(sends.of(name)) for name in names} == runs(environment)), sends.sends


def test_a_deploy_hands_the_runs_over(environment: dict[str, str], redis: Redis) -> None:
    environment = in_settings(environment, often=1, slow=5)
    with arrivals(redis) as sends, beat(environment) as old:
        arrived(sends, old, "slow", 1)
        with beat(environment) as new:
            new.told(STANDBY)
            old.stop()
            arrived(sends, new, "slow", 3)
            new.stop()
        assert_sent_by_one(environment, sends, "often", "slow")
    assert min(gaps(sends.of("slow"))) > 2.5


def test_a_first_run_is_not_put_off_by_deploys(environment: dict[str, str], redis: Redis) -> None:
    """It waits since the entry was seen first, and who stands by has not seen it."""
    with beat(in_settings(environment, hourly=HOURLY)) as old:
        old.told("last tick")
        written = file_of(environment).read_text()
        with beat(in_settings(environment, hourly=HOURLY, daily=24 * HOURLY)) as new:
            new.told(STANDBY, times=2)
            assert file_of(environment).read_text() == written
            old.stop()
            new.told("last tick")
            runs = json.loads(file_of(environment).read_text())
            assert runs.keys() == {"hourly", "daily"}
            assert runs["hourly"] == json.loads(written)["hourly"]


def test_a_run_is_not_forgotten_in_a_crash(environment: dict[str, str], redis: Redis) -> None:
    """Celery writes the first run of a process at once, and the next ones every three minutes."""
    names = ("one", "two")
    environment = in_settings(environment, **dict.fromkeys(names, HOURLY))
    make_due(environment, *names)
    with arrivals(redis) as sends:
        with beat(environment) as killed:
            killed.waits(lambda: len(sends.sends) == len(names), "send of each")
            killed.told("STATUS=", times=3)
            killed.process.kill()
            killed.process.wait()
        with beat(environment) as new:
            new.told("STATUS=", times=3)
        assert runs(environment) == {name: len(sends.of(name)) for name in names} == dict.fromkeys(names, 1)


def test_a_lost_lease_changes_who_sends(environment: dict[str, str], redis: Redis) -> None:
    environment = in_settings(environment, often=3)
    with arrivals(redis) as sends, beat(environment) as old:
        arrived(sends, old, "often", 1)
        lose_and_regain(environment, sends, old, "often")
        old.stop()
        assert_sent_by_one(environment, sends, "often")
    assert min(gaps(sends.of("often"))) > 2


def test_a_stop_leaves_what_waits_for_the_broker_to_the_next_beat(environment: dict[str, str], redis: Redis) -> None:
    environment = in_settings(environment, hourly=HOURLY)
    make_due(environment, "hourly")
    redis.stop()
    with beat(environment) as old:
        waits_for_the_broker(old)
        old.stop()
        assert old.process.returncode == 0
    assert runs(environment) == {"hourly": 0}
    redis.start()
    with arrivals(redis) as sends, beat(environment) as new:
        arrived(sends, new, "hourly", 1)
        new.stop()
    assert runs(environment) == {"hourly": 1}


def waits_for_the_broker(running: Supervised) -> None:
    """Wait until a beat has tried to send."""
    running.waits(lambda: "Connection error" in running.log.read_text(), "attempt to send")


@pytest.fixture
def chosen() -> Any:
    """A function that returns the classes of the scheduler that a project gets by its settings and its apps."""
    import django
    from celery import Celery
    from django.apps import apps

    django.setup()
    from celeriac.beat.scheduler import scheduler

    def choose(setting: str | None, installed: bool) -> set[str]:
        app = Celery("chosen", set_as_current=False)
        if setting:
            app.conf.beat_scheduler = setting
        if not installed:
            apps.set_available_apps(["work"])
        try:
            made = scheduler(app, lazy=True, schedule_filename="runs")
        finally:
            if not installed:
                apps.unset_available_apps()
        return {f"{each.__module__}:{each.__name__}" for each in type(made).__mro__}

    return choose


OURS_IN_A_FILE, OURS_IN_A_TABLE = "celeriac.beat.file:FileScheduler", "celeriac.beat.database:DatabaseScheduler"


@pytest.mark.parametrize(
    ("setting", "installed", "ours"),
    [
        (None, True, OURS_IN_A_TABLE),
        (None, False, OURS_IN_A_FILE),
        ("celery.beat:PersistentScheduler", True, OURS_IN_A_FILE),
        ("django", True, OURS_IN_A_TABLE),
        ("work.schedulers:Renaming", True, OURS_IN_A_TABLE),
    ],
)
def test_a_project_gets_ours_over_its_own(chosen: Any, setting: str | None, installed: bool, ours: str) -> None:
    classes = chosen(setting, installed)
    assert ours in classes
    assert len(classes & {OURS_IN_A_FILE, OURS_IN_A_TABLE}) == 1
    assert setting in {None, "django"} or setting in classes


def test_a_scheduler_of_another_kind_is_refused(chosen: Any) -> None:
    from django.core.exceptions import ImproperlyConfigured

    with pytest.raises(ImproperlyConfigured, match=r"is celery\.beat:Scheduler.*CELERY_BEAT_SCHEDULER = "):
        chosen("celery.beat:Scheduler", installed=True)
