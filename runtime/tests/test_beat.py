"""The scheduler: what it sends, what it remembers, and what it tells its supervisor."""

import re
import signal
import sqlite3
import time
from datetime import timedelta
from typing import Any

import django
import pytest
from beats import HOURLY, beat, overdue, parse_status, schedule, with_schedule
from django.core.management import call_command
from testkit.redis import Redis

from celeriac.beat.status import BeatStatus


@pytest.fixture
def hourly() -> Any:
    """A function that makes a scheduler with hourly entries, each sent some seconds ago, and lists what it sends."""
    django.setup()
    call_command("migrate", verbosity=0)
    from demo.celery import app
    from django.utils import timezone
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    def make(scheduler_class: type, *ago: float) -> tuple[Any, list[str]]:
        PeriodicTask.objects.all().delete()
        interval, _ = IntervalSchedule.objects.get_or_create(every=HOURLY, period="seconds")
        now = timezone.now()
        for number, seconds in enumerate(ago):
            PeriodicTask.objects.create(
                name=f"hourly {number}",
                task="work.tasks.sleep",
                interval=interval,
                last_run_at=now - timedelta(seconds=seconds),
            )
        scheduler = scheduler_class(app)
        sent: list[str] = []
        scheduler.apply_entry = lambda entry, producer=None: sent.append(entry.name)
        scheduler.producer = None
        return scheduler, sent

    return make


@pytest.fixture
def sends(hourly: Any) -> Any:
    """A function that counts how often a scheduler sends one hourly entry over a rebuilt heap."""

    def count(scheduler_class: type) -> int:
        scheduler, sent = hourly(scheduler_class, HOURLY + 1)
        scheduler.tick()
        # So it is left when an operator's edit lands between the two times that a tick looks.
        scheduler._heap_invalidated = True
        for _ in range(3):
            scheduler.tick()
        return sent.count("hourly 0")

    return count


def test_it_sleeps_while_nothing_is_due(hourly: Any) -> None:
    """Each tick asks the database. Celery before 5.7 asks the entry on top of the heap in each of them."""
    from celeriac.beat.database import DatabaseScheduler

    scheduler, sent = hourly(DatabaseScheduler, 0, 60, 60, 1800)
    assert [scheduler.tick() for _ in range(5)] == [scheduler.max_interval] * 5
    assert sent == []


def test_an_entry_that_is_not_due_yet_holds_up_no_other(hourly: Any) -> None:
    """One may be on top that puts its run off: at its time it is not due."""
    from celeriac.beat.database import DatabaseScheduler

    scheduler, sent = hourly(DatabaseScheduler, 1800, 60, HOURLY + 1)
    scheduler.tick()
    assert sent == ["hourly 2"]
    sent.clear()
    events = {event.entry.name: event for event in scheduler._heap}
    put_off, due = events["hourly 0"], events["hourly 2"]
    due.entry.last_run_at = due.entry.last_run_at - timedelta(seconds=HOURLY)
    scheduler._heap[:] = [put_off._replace(time=0), due._replace(time=1)]

    assert scheduler.tick() == 0
    scheduler.tick()
    assert sent == ["hourly 2"]


def test_an_entry_is_sent_once_though_the_heap_is_rebuilt(sends: Any) -> None:
    from celeriac.beat.database import DatabaseScheduler

    assert sends(DatabaseScheduler) == 1


def test_the_stock_scheduler_still_needs_the_amendment(sends: Any) -> None:
    """When this fails, the library has been mended, and our `reserve` can go."""
    from django_celery_beat.schedulers import DatabaseScheduler

    assert sends(DatabaseScheduler) == 2


def test_ready_means_that_it_ticks(environment: dict[str, str], redis: Redis) -> None:
    redis.stop()  # so the first tick, which has something to send at once, cannot be completed
    with beat(overdue(environment)) as running:
        running.waits(lambda: "Connection error" in running.log.read_text(), "attempt to send")
        assert running.notifications.texts() == []
        started = int(time.time())
        redis.start()
        message = running.told("READY=1")
        assert running.notifications.texts()[0] == message
        status = parse_status(message.partition("STATUS=")[2])
        assert isinstance(status, BeatStatus)
        assert started <= status.last_tick <= time.time()


def test_the_status_tells_the_last_tick_and_what_is_due(environment: dict[str, str]) -> None:
    started = int(time.time())
    with beat(with_schedule(environment, schedule(HOURLY, count=2))) as running:
        running.told("STATUS=", times=2)
        assert "no lease on sqlite" in running.log.read_text()
        status = parse_status(running.notifications.texts()[-1].removeprefix("STATUS="))
        assert isinstance(status, BeatStatus)
        assert started <= status.last_tick <= time.time()
        assert status.entries == 2
        assert status.next_due is not None
        assert 0 < status.next_due <= HOURLY
        running.stop()
        assert running.notifications.texts()[-1] == "STOPPING=1"


def test_a_busy_schedule_reports_about_once_a_second(environment: dict[str, str]) -> None:
    with beat(with_schedule(environment, schedule(1, count=20))) as running:
        running.told("STATUS=", times=4)
        texts = "".join(running.notifications.texts())
        assert texts.count("STATUS=") == texts.count("last tick")
        ticks = re.findall(r"last tick (\d+)", texts)  # in whole seconds, of 20 that there are
        assert len(set(ticks)) == len(ticks)


def test_a_run_is_not_forgotten_in_a_crash(environment: dict[str, str]) -> None:
    with beat(with_schedule(environment, schedule(1))) as running:
        running.waits(lambda: "entry 0" in running.log.read_text(), "entry sent")
        time.sleep(0.5)
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
    with sqlite3.connect(environment["SQLITE"]) as database:
        query = "SELECT total_run_count FROM django_celery_beat_periodictask WHERE name = 'entry 0'"
        assert database.execute(query).fetchone()[0] > 0
