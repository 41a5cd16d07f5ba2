"""Rows of the schedule that no scheduler can read: the others go on, and each of these is named."""

import subprocess
import sys
from typing import Any

import pytest
from beats import arrivals, beat, parse_status, schedule, with_schedule
from testkit.redis import Redis

from celeriac.beat.status import BeatStatus

# Written past the checks of the admin's form, as the shell, an older release or a file may do it.
ROWS = """
import datetime, django
django.setup()
from django.db import connection
from django_celery_beat.models import *

hourly = IntervalSchedule.objects.create(every=1, period="hours")
never = CrontabSchedule.objects.create(minute="0", hour="*", day_of_month="30", month_of_year="2")
words = CrontabSchedule.objects.create(minute="soon")
sunrise = SolarSchedule.objects.create(event="sunrise", latitude=52, longitude=13)
once = ClockedSchedule.objects.create(clocked_time=datetime.datetime.now(datetime.UTC))
elsewhere = CrontabSchedule.objects.create(minute="1")
rows = {
    "30 February": {"crontab": never},
    "no ephem": {"solar": sunrise},
    "no minute": {"crontab": words},
    "no zone": {"crontab": elsewhere},
    "without a pause": {"interval": IntervalSchedule.objects.create(every=0, period="seconds")},
    "past the calendar": {"interval": IntervalSchedule.objects.create(every=10**9, period="days")},
    "past the year 9999": {"interval": IntervalSchedule.objects.create(every=10**8, period="days")},
    "no period": {"interval": IntervalSchedule.objects.create(every=1, period="moons")},
    "no schedule": {},
    "two schedules": {"interval": hourly, "crontab": CrontabSchedule.objects.create(minute="2")},
    "more than once": {"clocked": once},
    "half a list": {"interval": hourly, "args": "["},
    "no list": {"interval": hourly, "args": "5"},
    "no object": {"interval": hourly, "kwargs": "[]"},
    "no headers": {"interval": hourly, "headers": "{"},
    "a name\\nMAINPID=1": {"interval": hourly, "args": "["},
}
PeriodicTask.objects.bulk_create(
    [PeriodicTask(name=name, task="celeriac.ping", **fields) for name, fields in rows.items()]
)
each_second = IntervalSchedule.objects.create(every=1, period="seconds")
PeriodicTask.objects.create(name="gone", task="no.such.task", interval=each_second)
with connection.cursor() as cursor:
    cursor.execute(
        "UPDATE django_celery_beat_crontabschedule SET timezone = 'Moon/Tycho' WHERE minute = '1'"
    )
print(*map(repr, rows), sep="\\n")
"""
STILL_ENABLED = """
import django
django.setup()
from django_celery_beat.models import PeriodicTask
print(PeriodicTask.objects.filter(enabled=True).count())
"""
LATE = """
import django
django.setup()
from celeriac.ledger.report import beat_is_late
print(beat_is_late())
"""


def run(code: str, environment: dict[str, str]) -> list[str]:
    """Run code in the project; return the lines that it prints."""
    asked = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return asked.stdout.splitlines()


@pytest.fixture
def faulty(environment: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """The environment of a beat with such rows and an entry of every second, and their names."""
    changed = with_schedule(environment, schedule(1))
    return changed, run(ROWS, changed)


def test_faulty_rows_are_named_and_the_others_are_sent(faulty: tuple[dict[str, str], list[str]], redis: Redis) -> None:
    environment, names = faulty
    with arrivals(redis) as sends, beat(environment) as running:
        running.waits(lambda: len(sends.of("entry 0")) > 2, "sends of the good entry")
        running.waits(lambda: len(sends.of("gone")) > 2, "sends of one whose task nobody knows")
        status = parse_status(running.told(f"{len(names)} faulty").rpartition("STATUS=")[2])
        assert {name for _, name in sends.sends} == {"entry 0", "gone"}
        log = running.log.read_text()
    assert isinstance(status, BeatStatus)
    assert (status.entries, status.faulty) == (2, len(names))
    assert [log.count(f"beat: {name} cannot be sent") for name in names] == [1] * len(names)
    assert not any(text.startswith("MAINPID") for text in status_lines(running))
    assert run(STILL_ENABLED, environment) == [str(len(names) + 2)]


def status_lines(running: Any) -> list[str]:
    """Return all lines that a process told its supervisor."""
    return [line for text in running.notifications.texts() for line in text.splitlines()]


def test_a_row_that_is_mended_is_sent(faulty: tuple[dict[str, str], list[str]], redis: Redis) -> None:
    environment, names = faulty
    mend = (
        "import django; django.setup()\n"
        "from django_celery_beat.models import *\n"
        "row = PeriodicTask.objects.get(name='half a list')\n"
        "row.args, row.interval = '[]', IntervalSchedule.objects.get(every=1, period='seconds')\n"
        "row.save()"
    )
    with arrivals(redis) as sends, beat(environment) as running:
        running.told(f"{len(names)} faulty")
        run(mend, environment)
        running.told(f"{len(names) - 1} faulty")
        running.waits(lambda: sends.of("half a list") != [], "send of the mended entry")


def test_the_journal_tells_who_is_late_beside_faulty_rows(
    faulty: tuple[dict[str, str], list[str]],
) -> None:
    environment, _ = faulty
    assert run(LATE, {**environment, "MORE_APPS": "celeriac.ledger"}) == ["[]"]
