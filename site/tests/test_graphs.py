"""What is measured once a minute, and how it is drawn."""

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celeriac.console import graphs, samples
from celeriac.console.models import Sample
from celeriac.ledger.models import Counter, Dispatch
from celery import current_app
from django.test import Client
from django_celery_results.models import TaskResult

from people import member
from processes import Stack

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 29, 12, 39, 56, tzinfo=UTC)
MINUTE = NOW.replace(second=0)


def ended(status: str, done: datetime, seconds: float = 1) -> None:
    """Put the result of a task that ended at a time into the database."""
    row = TaskResult.objects.create(task_id=f"{status} {done} {seconds}", status=status, task_name="app.tasks.add")
    TaskResult.objects.filter(pk=row.pk).update(date_done=done, date_started=done - timedelta(seconds=seconds))


def numbers(series: str) -> dict[datetime, float]:
    """Return what was measured of a series, by minute."""
    return dict(Sample.objects.filter(series=series).values_list("minute", "value"))


COUNT = """
from celeriac.console.samples import queue_lengths
from app.tasks import add
print(queue_lengths())
for priority in (0, 5, 9):
    add.apply_async((1, 2), priority=priority)
print(queue_lengths())
"""


def test_tasks_in_the_queue_are_counted(worker_stack: Stack) -> None:
    """Of each priority, for they are one queue; and none where the queue does not exist yet."""
    counted = worker_stack.manage("shell", "-v0", "-c", COUNT)
    assert counted.stdout.splitlines() == ["{'celery': 0}", "{'celery': 3}"], counted.stderr


def test_ended_tasks_are_counted_by_the_minute(broker: None) -> None:
    """Whole minutes only, and each once; an error is not a result."""
    first = MINUTE - timedelta(minutes=2)
    ended("SUCCESS", first, 1)
    ended("SUCCESS", first + timedelta(seconds=59), 3)
    ended("FAILURE", MINUTE - timedelta(seconds=1), 8)
    ended("SUCCESS", MINUTE + timedelta(seconds=1))  # this minute is not over
    ended("STARTED", first)
    samples.take(NOW)
    succeeded = numbers("succeeded")
    assert (succeeded[first], succeeded[MINUTE - timedelta(minutes=1)]) == (2, 0)
    assert sum(succeeded.values()) == 2
    assert sum(numbers("failed").values()) == 1
    assert numbers("seconds-mean")[first] == pytest.approx(2)
    assert numbers("seconds-max") == {first: pytest.approx(3), MINUTE - timedelta(minutes=1): pytest.approx(8)}
    assert numbers("queue:celery") == {MINUTE: 0}


def test_measuring_twice_in_a_minute_changes_nothing(broker: None) -> None:
    """A task is delivered at least once."""
    samples.take(NOW)
    before = list(Sample.objects.values_list("minute", "series", "value"))
    samples.take(NOW + timedelta(seconds=2))
    assert list(Sample.objects.values_list("minute", "series", "value")) == before


def test_minutes_without_a_free_worker_are_counted_later(broker: None) -> None:
    """The results are still there; how long the queue was then, nobody knows."""
    samples.take(NOW - timedelta(minutes=5))
    ended("SUCCESS", MINUTE - timedelta(minutes=3))
    samples.take(NOW)
    assert numbers("succeeded")[MINUTE - timedelta(minutes=3)] == 1
    assert sorted(numbers("queue:celery")) == [MINUTE - timedelta(minutes=5), MINUTE]


def test_a_day_is_kept(broker: None) -> None:
    """And an hour, so that the oldest slot is whole."""
    for hours in (24, 26):
        Sample.objects.create(minute=MINUTE - timedelta(hours=hours), series="queue:celery", value=1)
    samples.take(NOW)
    assert MINUTE - timedelta(hours=24) in numbers("queue:celery")
    assert MINUTE - timedelta(hours=26) not in numbers("queue:celery")


def test_what_was_before_the_first_task_ended_is_not_counted(broker: None) -> None:
    """A line of zeros would say that nothing ran, of a time when there was nothing to run."""
    samples.take(NOW)
    assert numbers("succeeded") == {MINUTE - timedelta(minutes=1): 0}
    Sample.objects.all().delete()
    ended("FAILURE", MINUTE - timedelta(hours=3))
    ended("STARTED", MINUTE - timedelta(hours=5))
    samples.take(NOW)
    assert min(numbers("failed")) == MINUTE - timedelta(hours=3)
    assert len(numbers("succeeded")) == 180


def test_queues_of_other_workers_are_measured_too(broker: None) -> None:
    """Where something was sent lately, or waits since an hour: this process knows its own ones only."""
    Dispatch.objects.create(task_id="1", name="app.tasks.add", queue="mail")
    Dispatch.objects.create(task_id="2", name="app.tasks.add", queue="")
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5)
    Sample.objects.create(minute=minute, series="queue:slow", value=3)
    Sample.objects.create(minute=minute, series="queue:quiet", value=0)
    own = {*current_app.amqp.queues}  # other tests may have used some
    assert own.isdisjoint({"mail", "slow", "quiet"})
    assert samples.queue_lengths() == dict.fromkeys(own | {"mail", "slow"}, 0)


def a_day() -> None:
    """Put a day of samples into the database, with a gap of an hour."""
    Sample.objects.bulk_create(
        Sample(minute=MINUTE - timedelta(minutes=minutes), series=series, value=value)
        for minutes in range(1440)
        if not 300 <= minutes < 360
        for series, value in (("queue:celery", minutes % 7), ("succeeded", 12), ("failed", 0.5), ("seconds-max", 1.25))
    )


def test_a_day_is_drawn_in_one_query(django_assert_num_queries: Any) -> None:
    """However many samples there are."""
    a_day()
    with django_assert_num_queries(1):
        queue, ended_, seconds = graphs.last_day(NOW)
    assert [graph.is_empty for graph in (queue, ended_, seconds)] == [False, False, False]
    assert queue.series[0].path.count("M") == 2, "the line is broken where nothing was measured"
    assert ended_.series[0].path.count("Z") == graphs.SLOTS - 6
    assert [len(graph.rows) for graph in (queue, ended_, seconds)] == [24, 24, 24]


@pytest.mark.parametrize(
    ("minutes", "slots", "hours", "begins"),
    [(1, 6, 1, 600), (61, 7, 2, 0), (200, 20, 4, 0), (1439, 144, 24, 0), (2000, 144, 24, 0)],
)
def test_a_graph_begins_where_the_data_begins(minutes: int, slots: int, hours: int, begins: int) -> None:
    """In the drawing, in its table, and in words; an hour is shown at least."""
    Sample.objects.bulk_create(
        Sample(minute=MINUTE - timedelta(minutes=ago), series="queue:celery", value=1) for ago in range(minutes)
    )
    end = datetime(2026, 3, 29, 12, 40, tzinfo=UTC)
    first = MINUTE - timedelta(minutes=minutes - 1)
    for graph in graphs.last_day(NOW):
        assert graph.hours[0] == end - slots * graphs.SLOT
        assert graph.hours[-1] == end
        assert len(graph.rows) == hours
        assert graph.rows[-1][0] == graph.hours[0]
        assert graph.since == (first if slots < graphs.SLOTS else None)
    queue = graphs.last_day(NOW)[0]
    assert queue.series[0].path.startswith(f"M{begins:.1f} ")
    assert queue.series[0].path.endswith(f"H{graphs.WIDTH:.1f}")


def test_the_page_says_since_when_was_measured(client: Client) -> None:
    """Where that is not the whole day."""
    client.force_login(member("anna"))
    begin = graphs._next_slot(datetime.now(UTC)) - timedelta(hours=24)
    Sample.objects.create(minute=begin + timedelta(hours=2), series="queue:celery", value=1)
    assert "measured since" in client.get("/tasks/graphs/").content.decode()
    for minute in (begin, begin + graphs.SLOT):  # the second one if ten minutes end in this moment
        Sample.objects.create(minute=minute, series="queue:celery", value=1)
    page = client.get("/tasks/graphs/").content.decode()
    assert "measured since" not in page
    assert "The last 24 hours" in page


@pytest.mark.parametrize("number", [10, 14])
def test_many_queues_can_be_told_apart(client: Client, number: int) -> None:
    """Each line has a look of its own, and the key its number; of more than that the fullest are drawn."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    Sample.objects.bulk_create(Sample(minute=now, series=f"queue:q{n:02}", value=n) for n in range(number))
    queue = graphs.last_day()[0]
    drawn = [f"q{n:02}" for n in range(number)][-12:]
    assert [series.label for series in queue.series] == drawn
    assert len({series.style for series in queue.series}) == len(drawn)
    assert queue.left_out == number - len(drawn)
    assert "q00" not in queue.summary
    client.force_login(member("anna"))
    page = client.get("/tasks/graphs/").content.decode()
    assert re.findall(r"<span>(q\d\d)</span> <strong>(\d+)</strong>", page) == [(q, str(int(q[1:]))) for q in drawn]
    assert ("2 queues more are not drawn" in page) == (number == 14)


def test_nothing_is_drawn_outside_of_the_drawing() -> None:
    """The greatest value touches the upper edge at most."""
    a_day()
    Sample.objects.create(minute=MINUTE - timedelta(minutes=400), series="queue:other", value=98765)
    for graph in graphs.last_day(NOW):
        for series in graph.series:
            for command, values in re.findall(r"([MHV])([\d. ]+)", series.path):
                x, y = {"M": values.split(), "H": [values, "0"], "V": ["0", values]}[command]
                assert 0 <= float(x) <= graphs.WIDTH
                assert 0 <= float(y) <= graphs.HEIGHT


@pytest.mark.parametrize(
    ("greatest", "top"), [(0, 1), (0.3, 1), (1, 1), (1.1, 1.6), (7, 8), (10, 10), (11, 16), (99, 100), (850, 1000)]
)
def test_the_scale_ends_at_a_round_number(greatest: float, top: float) -> None:
    """At or above the greatest value."""
    assert graphs._round_top([None, greatest, 0]) == pytest.approx(top)


@pytest.mark.parametrize("language", ["en", "ru"])
def test_the_page_has_each_graph_as_a_drawing_and_as_a_table(client: Client, language: str) -> None:
    """Named and described for those who do not see it, and well-formed where numbers have a comma."""
    Sample.objects.create(minute=datetime.now(UTC).replace(second=0, microsecond=0), series="seconds-max", value=1.26)
    client.force_login(member("anna"))
    page = client.get("/tasks/graphs/", headers={"accept-language": language}).content.decode()
    assert ("1,3" if language == "ru" else "1.3") in page
    (drawing,) = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    svg = ET.fromstring(drawing)
    assert svg.get("role") == "img"
    labels = (svg.get("aria-labelledby") or "").split()
    assert {element.get("id") for element in svg if element.text and element.get("id")} >= set(labels)
    for path in svg.iter("path"):
        assert re.fullmatch(r"[MHVZ\d. ]*", path.get("d") or "")
    for rectangle in svg.iter("rect"):
        assert float(rectangle.get("x") or "") >= 0
    assert page.count("<tbody>") == 1
    assert page.count("<figure") == 3


def test_the_page_says_what_the_journal_has_counted(client: Client) -> None:
    """A task that was to end an hour ago is named, and led to."""
    hour = timedelta(hours=1)
    Counter.add("not_noted", 7)
    Dispatch.objects.create(task_id="hangs", name="app.tasks.add", started_at=NOW - 2 * hour, overdue_at=NOW - hour)
    client.force_login(member("anna"))
    page = client.get("/tasks/graphs/").content.decode()
    assert "<dt>Sent without a row in the journal</dt><dd>7</dd>" in page
    assert "<dt>Started and never ended</dt><dd>1</dd>" in page
    assert 'href="/tasks/hangs/"' in page
