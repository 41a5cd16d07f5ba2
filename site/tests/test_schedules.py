"""The schedule: what the code, an operator and daylight-saving time make of it."""

import datetime as dt
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from celeriac.schedule import scheduler
from celeriac.schedule.models import ScheduleDefault
from celery import signals
from celery.schedules import crontab
from django_celery_beat import schedulers as stock
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from TimeOut.celery import app

pytestmark = pytest.mark.django_db

BERLIN = ZoneInfo("Europe/Berlin")
UTC = ZoneInfo("UTC")
DAILY = {"task": "app.tasks.add", "schedule": crontab(minute="30", hour="2"), "args": (2, 3)}

JUNE = dt.datetime(2026, 6, 1, tzinfo=UTC)

Begin = Callable[..., Any]
Sent = dict[str, list[dt.datetime]]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """A function that lets beat begin to send, with these entries in the code; it returns its scheduler."""
    before = app.conf.beat_schedule

    def begin(entries: dict[str, Any], scheduler: Any = scheduler.DatabaseScheduler) -> Any:
        app.conf.beat_schedule = entries
        return scheduler(app)

    yield begin
    app.conf.beat_schedule = before


def row(name: str = "daily") -> Any:
    """Return an entry as the database has it."""
    return PeriodicTask.objects.get(name=name)


def enabled() -> set[str]:
    """Return the entries that beat sends when they are due."""
    return set(PeriodicTask.objects.enabled().values_list("name", flat=True))


# --------------------------------------------------------------------------------------------------
# The code and the operator
# --------------------------------------------------------------------------------------------------


def test_an_entry_of_the_code_appears_in_the_database(begin: Begin) -> None:
    """Beside Celery's own clean-up of results."""
    begin({"daily": DAILY})
    assert enabled() == {"daily", "celery.backend_cleanup"}
    assert (row().task, row().args, row().crontab.hour, row().enabled) == ("app.tasks.add", "[2, 3]", "2", True)


def test_what_an_operator_changed_survives_the_next_start_of_beat(begin: Begin) -> None:
    """Each field for itself: the others still follow the code."""
    begin({"daily": DAILY, "off": DAILY})
    entry = row()
    entry.crontab = CrontabSchedule.objects.create(minute="15", hour="5", timezone=BERLIN)
    entry.args = "[20, 30]"
    entry.description = "Not before the backup is done."
    entry.save()
    PeriodicTask.objects.filter(name="off").update(enabled=False)

    changed = {**DAILY, "schedule": 3600, "args": (4, 5), "options": {"queue": "slow", "priority": 3}}
    begin({"daily": changed, "off": changed})

    entry = row()
    assert (entry.crontab.hour, entry.interval, entry.args) == ("5", None, "[20, 30]")
    assert entry.description == "Not before the backup is done."
    assert (entry.queue, entry.priority) == ("slow", 3)
    assert not row("off").enabled
    assert (row("off").interval.every, row("off").crontab) == (3600, None)
    assert scheduler.changed_here(entry, ScheduleDefault.objects.get(name="daily")) == [
        *("args", "description", "schedule"),
    ]


def test_a_time_that_was_edited_in_place_is_an_operators_too(begin: Begin) -> None:
    """The admin lets one edit the crontab itself, under the same key."""
    begin({"daily": DAILY})
    CrontabSchedule.objects.filter(pk=row().crontab_id).update(hour="6")
    begin({"daily": DAILY})
    assert row().crontab.hour == "6"


def test_celerys_own_clean_up_can_be_moved(begin: Begin) -> None:
    """At the next start it stays where it was put."""
    begin({})
    entry = row("celery.backend_cleanup")
    entry.crontab = CrontabSchedule.objects.create(minute="0", hour="1", timezone=UTC)
    entry.save()
    begin({})
    assert row("celery.backend_cleanup").crontab.hour == "1"


def test_a_start_of_beat_with_the_same_code_writes_no_entry(begin: Begin) -> None:
    """An entry that has never run yet counts from its last change: each start would put it off."""
    begin({"daily": DAILY})
    before = row().date_changed
    begin({"daily": DAILY})
    assert row().date_changed == before


def test_an_entry_that_is_gone_from_the_code_is_disabled_and_says_so(begin: Begin) -> None:
    """And comes back as it was, with the code that has it again: a release that was undone."""
    begin({"daily": DAILY})
    PeriodicTask.objects.update(description="For the accountants.")
    begin({})
    assert not row().enabled
    assert row().description == f"{scheduler.REMOVED}\nFor the accountants."

    begin({"daily": DAILY})
    assert row().enabled
    assert row().description == "For the accountants."


def test_an_entry_without_a_schedule_that_is_gone_from_the_code_is_disabled_too(begin: Begin) -> None:
    """The library refuses to write such a row."""
    begin({"daily": DAILY})
    PeriodicTask.objects.filter(name="daily").update(crontab=None)
    scheduler.disable_all_but({"celery.backend_cleanup"})
    assert enabled() == {"celery.backend_cleanup"}
    assert row().description == scheduler.REMOVED


def test_who_enables_a_removed_entry_again_is_not_contradicted(begin: Begin) -> None:
    """It was disabled once, when the code dropped it."""
    begin({"daily": DAILY})
    begin({})
    PeriodicTask.objects.filter(name="daily").update(enabled=True)
    begin({})
    assert row().enabled


def test_an_entry_that_an_operator_disabled_stays_so_when_the_code_has_it_again(begin: Begin) -> None:
    """Only what we disabled ourselves is enabled."""
    begin({"daily": DAILY})
    PeriodicTask.objects.filter(name="daily").update(enabled=False)
    begin({})
    begin({"daily": DAILY})
    assert not row().enabled


def test_entries_made_by_hand_are_left_alone(begin: Begin) -> None:
    """However often beat starts."""
    hourly = IntervalSchedule.objects.create(every=1, period="hours")
    PeriodicTask.objects.create(name="by hand", task="app.tasks.add", interval=hourly, args="[1, 1]")
    begin({})
    assert (row("by hand").enabled, row("by hand").description) == (True, "")


def test_an_entry_that_was_there_before_anything_was_noted_counts_as_the_operators(begin: Begin) -> None:
    """As after an update of a site on which django-celery-beat's own scheduler ran."""
    begin({"daily": DAILY}, stock.DatabaseScheduler)
    PeriodicTask.objects.filter(name="daily").update(args="[8, 9]")
    begin({"daily": DAILY})
    begin({"daily": DAILY})
    assert row().args == "[8, 9]"


def test_an_entry_that_cannot_be_written_stops_no_other(begin: Begin) -> None:
    """It is not taken for one that is gone from the code either."""
    begin({"daily": DAILY})
    begin({"daily": {**DAILY, "schedule": "soon"}, "other": DAILY})
    assert enabled() >= {"daily", "other"}


def test_the_stock_scheduler_still_writes_over_an_operators_change(begin: Begin) -> None:
    """When this fails, django-celery-beat has learnt it, and `celeriac.schedule.scheduler` can become shorter."""
    begin({"daily": DAILY}, stock.DatabaseScheduler)
    PeriodicTask.objects.filter(name="daily").update(args="[8, 9]")
    begin({"daily": DAILY}, stock.DatabaseScheduler)
    assert row().args == "[2, 3]"


# --------------------------------------------------------------------------------------------------
# The clock
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def sent(broker: None) -> Iterator[Sent]:
    """When beat sent each entry, to a real broker, by the moved clock."""
    times = defaultdict(list)

    def note(headers: dict[str, Any], **_: Any) -> None:
        times[headers["periodic_task_name"]].append(dt.datetime.now(UTC))

    signals.after_task_publish.connect(note)
    yield times
    signals.after_task_publish.disconnect(note)


@pytest.fixture(params=["UTC", "Europe/Berlin"])
def timezone_of_the_app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ZoneInfo:
    """What TIME_ZONE of the site is."""
    zone = ZoneInfo(request.param)
    monkeypatch.setitem(app.__dict__, "timezone", zone)  # Celery has read the settings already
    return zone


def let_beat_run(
    begin: Begin,
    entries: dict[str, Any],
    since: dt.datetime,
    until: dt.datetime,
    minutes: int,
    scheduler: Any = scheduler.DatabaseScheduler,
) -> None:
    """Let beat tick every so many minutes of a clock that is moved."""
    with time_machine.travel(since, tick=False) as clock:
        beat = begin(entries, scheduler)
        for now in itertools.takewhile(lambda now: now < until, steps(since, minutes)):
            clock.move_to(now)
            while beat.tick() == 0:
                pass  # it sent one, and looks for the next
        beat.close()


def steps(since: dt.datetime, minutes: int) -> Iterator[dt.datetime]:
    """Count on from a moment."""
    return (since + number * dt.timedelta(minutes=minutes) for number in itertools.count())


def daily(minute: int, hour: int, zone: str, last_run: dt.datetime) -> None:
    """Make an entry in the admin's tables: every day at this time of a place."""
    crontab = CrontabSchedule.objects.create(minute=str(minute), hour=str(hour), timezone=ZoneInfo(zone))
    PeriodicTask.objects.create(name="daily", task="app.tasks.add", args="[2, 3]", crontab=crontab)
    PeriodicTask.objects.filter(name="daily").update(last_run_at=last_run)


@pytest.mark.parametrize(
    ("hour", "minute", "zone", "day"),
    [
        (2, 30, "Europe/Berlin", dt.date(2026, 3, 29)),  # there is no 2:30
        (2, 30, "Europe/Berlin", dt.date(2026, 10, 25)),  # there are two
        (3, 0, "Europe/Berlin", dt.date(2026, 3, 29)),
        (3, 0, "Europe/Berlin", dt.date(2026, 10, 25)),
        (2, 0, "America/New_York", dt.date(2026, 3, 8)),
        (1, 0, "America/New_York", dt.date(2026, 11, 1)),
        (23, 30, "Europe/Berlin", dt.date(2026, 10, 25)),
    ],
)
@pytest.mark.usefixtures("timezone_of_the_app")
def test_a_daily_entry_runs_once_on_the_days_on_which_the_clock_is_changed(
    hour: int, minute: int, zone: str, day: dt.date, begin: Begin, sent: Sent
) -> None:
    """And on the days before and after, in the place's own time."""
    place = ZoneInfo(zone)
    days = [day + dt.timedelta(days=number) for number in (-1, 0, 1, 2)]
    since, until = (dt.datetime.combine(each, dt.time(), place).astimezone(UTC) for each in (days[0], days[3]))
    daily(minute, hour, zone, last_run=since - dt.timedelta(minutes=1))
    let_beat_run(begin, {}, since, until, minutes=30)
    moments = [moment.astimezone(place) for moment in sent["daily"]]
    assert [moment.date() for moment in moments] == days[:3]
    assert {(moment.hour, moment.minute) for moment in moments if moment.date() != day} == {(hour, minute)}


@pytest.mark.parametrize(
    ("scheduler", "runs"),
    [
        (scheduler.DatabaseScheduler, 4 * 60),
        (stock.DatabaseScheduler, 3 * 60),  # when this fails, `_without_skipped_hour` can go
    ],
)
def test_what_runs_each_minute_does_so_in_the_hour_that_there_is_twice(
    scheduler: Any, runs: int, begin: Begin, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`crontab()` of the code, on a site in Berlin."""
    monkeypatch.setitem(app.__dict__, "timezone", BERLIN)
    since = dt.datetime(2026, 10, 24, 23, tzinfo=UTC)  # 1 o'clock; 3 o'clock becomes 2 at 1 UTC
    entries = {"each minute": {"task": "app.tasks.add", "schedule": crontab(), "args": (2, 3)}}
    let_beat_run(begin, entries, since, since + dt.timedelta(hours=4), minutes=1, scheduler=scheduler)
    assert len(sent["each minute"]) in (runs, runs - 1)  # the first minute had begun


def test_a_run_that_was_missed_is_made_up_for_within_the_hour(begin: Begin, sent: Sent) -> None:
    """Beat comes back at 2:40: what was due at 2 is sent, once."""
    daily(0, 2, "UTC", last_run=JUNE + dt.timedelta(hours=2))
    since = JUNE + dt.timedelta(days=1, hours=2, minutes=40)
    let_beat_run(begin, {}, since, since + dt.timedelta(hours=23), minutes=30)
    assert sent["daily"] == [since]


def test_a_run_that_was_missed_long_ago_is_not_sent_at_some_other_hour(begin: Begin, sent: Sent) -> None:
    """Beat comes back at 5:30; by default it would send at midnight, and again at 2."""
    daily(0, 2, "UTC", last_run=JUNE + dt.timedelta(hours=2))
    since = JUNE + dt.timedelta(days=1, hours=5, minutes=30)
    let_beat_run(begin, {}, since, since + dt.timedelta(days=1), minutes=30)
    assert sent["daily"] == [JUNE + dt.timedelta(days=2, hours=2)]


# --------------------------------------------------------------------------------------------------
# What is shown
# --------------------------------------------------------------------------------------------------


def test_the_next_run_is_the_one_that_beat_will_send(begin: Begin) -> None:
    """Also after a missed one, which is not made up for when it is too old."""
    daily(0, 2, "Europe/Berlin", last_run=JUNE)
    with time_machine.travel(JUNE + dt.timedelta(hours=5), tick=False):
        assert scheduler.next_due(row()) == JUNE + dt.timedelta(days=1)
    with time_machine.travel(JUNE + dt.timedelta(hours=24, minutes=5), tick=False) as clock:
        assert scheduler.next_due(row()) == dt.datetime.now(UTC)
        clock.shift(dt.timedelta(hours=2))
        assert scheduler.next_due(row()) == JUNE + dt.timedelta(days=2)


@pytest.mark.parametrize(
    "change",
    [{"enabled": False}, {"expires": dt.datetime(2020, 1, 1, tzinfo=UTC)}, {"one_off": True, "total_run_count": 1}],
)
def test_what_is_never_sent_has_no_next_run(change: dict[str, Any]) -> None:
    """Disabled, expired, or sent already."""
    daily(0, 2, "UTC", last_run=JUNE)
    PeriodicTask.objects.update(**change)
    assert scheduler.next_due(row()) is None


@pytest.mark.parametrize(
    ("crontab_of", "skips"),
    [
        ({"hour": "*", "timezone": BERLIN}, True),
        ({"hour": "*/1", "timezone": BERLIN}, True),
        ({"hour": "1-4", "timezone": BERLIN}, True),
        ({"hour": "*", "timezone": UTC}, False),
        ({"hour": "*", "timezone": ZoneInfo("Asia/Tokyo")}, False),
        ({"hour": "2", "timezone": BERLIN}, False),
        ({"hour": "*/2", "timezone": BERLIN}, False),
    ],
)
def test_a_schedule_that_would_skip_an_hour_is_known(crontab_of: dict[str, Any], skips: bool) -> None:
    """Hourly or more often, where clocks are changed."""
    assert scheduler.skips_an_hour(CrontabSchedule(minute="*/15", **crontab_of)) is skips
