"""The schedule in the admin: what an operator sees and may do there."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import kombu
import pytest
from celeriac.console import tokens
from celeriac.console.models import ApiToken
from celeriac.ledger.models import Dispatch
from celeriac.ledger.publishing import PUBLICATION
from celeriac.schedule import scheduler
from celery.schedules import crontab
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.forms import model_to_dict
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from pytest_django import DjangoAssertNumQueries

from messages import Queue
from TimeOut.celery import app

pytestmark = pytest.mark.django_db

LIST = reverse("admin:django_celery_beat_periodictask_changelist")


@pytest.fixture
def operator(client: Client) -> Client:
    """A superuser, `olga`, logged in."""
    client.force_login(User.objects.create_superuser("olga"))
    return client


@pytest.fixture
def daily() -> Any:
    """An entry of the code, `daily`."""
    before, app.conf.beat_schedule = app.conf.beat_schedule, {}
    app.conf.beat_schedule = {"daily": {"task": "app.tasks.add", "schedule": crontab("0", "6"), "args": (2, 3)}}
    scheduler.DatabaseScheduler(app)
    app.conf.beat_schedule = before
    return PeriodicTask.objects.get(name="daily")


def said(page: Any) -> str:
    """Return the messages on top of a page."""
    return " | ".join(str(message) for message in page.context["messages"])


def by_hand(name: str, task: str = "app.tasks.add", args: str = "[1, 1]") -> Any:
    """Make an entry as an operator does."""
    interval, _ = IntervalSchedule.objects.get_or_create(every=1, period="hours")
    return PeriodicTask.objects.create(name=name, task=task, interval=interval, args=args)


def page_of(entry: Any, action: str = "change") -> str:
    """Return the address of an entry's page."""
    return reverse(f"admin:django_celery_beat_periodictask_{action}", args=[entry.pk])


def save(client: Client, entry: Any, **changes: Any) -> Any:
    """Save an entry's page with changes in it, and return the page that follows."""
    shown = {name: "" if value is None else value for name, value in model_to_dict(entry).items()}
    times = {f"{name}_{part}": "" for name in ("start_time", "expires") for part in (0, 1)}
    return client.post(page_of(entry), {**shown, **times, "regtask": "", **changes}, follow=True)


def test_the_list_shows_when_each_is_due_and_where_it_comes_from(operator: Client, daily: Any) -> None:
    """And what was changed there."""
    by_hand("mine")
    text = operator.get(LIST).content.decode()
    assert 'field-next_run nowrap">' in text
    assert text.count('class="field-origin">the code<') == 2  # Celery's own clean-up too
    assert text.count('class="field-origin">made here<') == 1
    PeriodicTask.objects.filter(name="daily").update(args="[4, 5]")
    assert 'class="field-origin">the code, but for args<' in operator.get(LIST).content.decode()


def test_the_list_takes_as_many_queries_for_many_entries_as_for_few(
    operator: Client, daily: Any, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    """None of the columns asks for each row."""
    for number in range(30):
        by_hand(f"mine {number}")
    with django_assert_max_num_queries(8):
        operator.get(LIST)


def test_run_now_sends_the_task_in_the_name_of_who_asks(operator: Client, daily: Any, queue: Queue) -> None:
    """It is in the console then, and the schedule is as before."""
    chosen = [daily.pk, PeriodicTask.objects.get(name="celery.backend_cleanup").pk]
    page = operator.post(LIST, {"action": "run_tasks", "_selected_action": chosen}, follow=True)
    assert "daily was started." in said(page)
    messages = {message["task"]: message for message in queue.take()}
    assert set(messages) == {"app.tasks.add", "celery.backend_cleanup"}
    assert messages["app.tasks.add"]["args"] == [2, 3]
    run = Dispatch.objects.get(task_id=messages["app.tasks.add"]["id"])
    assert run.sent_by == "olga"
    assert PeriodicTask.objects.get(name="daily").last_run_at is None
    assert LogEntry.objects.filter(object_repr__startswith="daily", user__username="olga").count() == 1


def without_its_own(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without what differs between two that are the same: ids, moments, a list shown as a tuple."""
    headers, properties = dict(message["headers"]), dict(message["properties"])
    for name in ("id", "root_id", "argsrepr", PUBLICATION):
        del headers[name]
    for name in ("correlation_id", "delivery_tag", "expiration"):
        properties.pop(name, None)
    return {**message, "id": None, "headers": headers, "properties": properties}


@pytest.fixture
def side(broker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second queue, `side`, at an exchange of its own of the same name."""
    declared = kombu.Queue("side", kombu.Exchange("side"), routing_key="side")
    monkeypatch.setitem(app.amqp.queues, "side", declared)
    with app.connection_for_write() as connection:
        bound = declared(connection.default_channel)
        bound.declare()
        bound.purge()


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({}, "celery"),
        ({"queue": "side"}, "side"),
        ({"exchange": "side", "routing_key": "side"}, "side"),
        ({"priority": 9}, "celery"),
        ({"headers": '{"tenant": "north"}'}, "celery"),
        ({"expire_seconds": 60}, "celery"),
        ({"expires": timezone.now() + timedelta(days=1)}, "celery"),
        ({"task": "celery.backend_cleanup", "args": "[]", "queue": "side", "expire_seconds": 60}, "side"),
    ],
)
def test_run_now_sends_what_beat_sends(
    fields: dict[str, Any], where: str, operator: Client, queue: Queue, side: None
) -> None:
    """Apart from the moment, and from who has sent it."""
    mine = by_hand("mine")
    PeriodicTask.objects.filter(pk=mine.pk).update(**fields)
    operator.post(LIST, {"action": "run_tasks", "_selected_action": [mine.pk]})
    (by_olga,) = queue.take(where)
    beat = scheduler.DatabaseScheduler(app, lazy=True)
    beat.apply_async(beat.Entry(PeriodicTask.objects.get(pk=mine.pk), app=app), advance=False)
    (by_beat,) = queue.take(where)
    assert by_olga["headers"].pop("sent_by") == "olga"
    ends = [datetime.fromisoformat(each["headers"].pop("expires") or "9999-12-31") for each in (by_olga, by_beat)]
    assert abs(ends[0] - ends[1]) < timedelta(seconds=30)
    assert without_its_own(by_olga) == without_its_own(by_beat)


def test_run_now_sends_what_is_over_for_beat_without_an_end(operator: Client, queue: Queue) -> None:
    """A worker would drop it; whoever asks wants it run."""
    mine = by_hand("mine")
    PeriodicTask.objects.filter(pk=mine.pk).update(expires=timezone.now() - timedelta(days=1))
    operator.post(LIST, {"action": "run_tasks", "_selected_action": [mine.pk]})
    (sent,) = queue.take()
    assert sent["headers"]["expires"] is None


def test_run_now_of_an_entry_that_cannot_be_read_leaves_it_enabled(operator: Client, queue: Queue) -> None:
    """To disable it is for beat, which says so in its log."""
    mine = by_hand("mine", args="[")
    page = operator.post(LIST, {"action": "run_tasks", "_selected_action": [mine.pk]}, follow=True)
    assert "mine: " in said(page)
    assert PeriodicTask.objects.get(pk=mine.pk).enabled
    assert queue.take() == []


def test_run_now_says_what_could_not_be_started(operator: Client, daily: Any, queue: Queue) -> None:
    """The others are started."""
    entries = [
        *(by_hand("gone", "app.tasks.gone"), by_hand("foreign", "celery.gone")),
        *(by_hand("wrong", args="[1]"), by_hand("odd", args="5"), daily),
    ]
    page = operator.post(
        LIST, {"action": "run_tasks", "_selected_action": [entry.pk for entry in entries]}, follow=True
    )
    assert "gone: There is no task 'app.tasks.gone' here." in said(page)
    assert "foreign: There is no task 'celery.gone' here." in said(page)
    assert "wrong: y: is required" in said(page)
    assert "odd: args: This is not a JSON list" in said(page)
    assert [message["args"] for message in queue.take()] == [[2, 3]]


def test_run_now_without_a_broker_is_a_message(operator: Client, daily: Any) -> None:
    """And no error page."""
    page = operator.post(LIST, {"action": "run_tasks", "_selected_action": [daily.pk]}, follow=True)
    assert page.status_code == 200
    assert "The broker is unavailable" in said(page)


def test_an_entry_of_the_code_is_disabled_and_not_deleted_or_renamed(operator: Client, daily: Any) -> None:
    """It would come back, or be there twice."""
    assert operator.post(page_of(daily, "delete"), {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [daily.pk], "post": "yes"}
    operator.post(LIST, chosen)
    assert PeriodicTask.objects.filter(name="daily").exists()
    save(operator, daily, name="other", args="[7, 8]")
    assert PeriodicTask.objects.get(pk=daily.pk).name == "daily"
    assert PeriodicTask.objects.get(pk=daily.pk).args == "[7, 8]"


def test_an_entry_made_by_hand_may_be_renamed_and_deleted(operator: Client) -> None:
    """It is the operator's."""
    mine = by_hand("mine")
    save(operator, mine, name="other")
    assert PeriodicTask.objects.get(pk=mine.pk).name == "other"
    operator.post(page_of(mine, "delete"), {"post": "yes"})
    assert not PeriodicTask.objects.filter(pk=mine.pk).exists()


@pytest.mark.parametrize(
    "change",
    [
        *({"args": "[1]"}, {"args": '["1", 2]'}, {"args": "5"}, {"args": "["}, {"args": '{"x": 1, "y": 2}'}),
        *({"kwargs": "[]"}, {"kwargs": '{"z": 1}'}, {"task": "app.tasks.gone"}, {"priority": "10"}),
    ],
)
def test_an_entry_that_could_not_be_sent_is_refused(change: dict[str, str], operator: Client) -> None:
    """Beat would only log it, each time."""
    mine = by_hand("mine")
    page = save(operator, mine, **change)
    assert "errorlist" in page.content.decode()
    saved = PeriodicTask.objects.get(pk=mine.pk)
    assert (saved.task, saved.args, saved.kwargs, saved.priority) == ("app.tasks.add", "[1, 1]", "{}", None)


def never() -> CrontabSchedule:
    """Make a crontab of a day that never comes."""
    return CrontabSchedule.objects.create(minute="0", hour="0", day_of_month="30", month_of_year="2")


def sunrise() -> SolarSchedule:
    """Make a schedule for which nothing is installed here."""
    return SolarSchedule.objects.create(event="sunrise", latitude=52, longitude=13)


@pytest.mark.parametrize(
    ("field", "make", "why"), [("crontab", never, "30"), ("solar", sunrise, "ephem")], ids=["30 February", "solar"]
)
def test_what_beat_could_never_send_is_refused_and_named(
    field: str, make: Callable[[], Any], why: str, operator: Client
) -> None:
    """In the form, and in the list where it came there by another way; neither list nor front page fails."""
    mine, schedule = by_hand("mine"), make()
    page = save(operator, mine, interval="", **{field: schedule.pk})
    assert "This could never be sent" in str(page.context["adminform"].form.errors[field])
    assert PeriodicTask.objects.get(pk=mine.pk).interval == mine.interval

    PeriodicTask.objects.filter(pk=mine.pk).update(interval=None, **{field: schedule.pk})
    listed = operator.get(LIST).content.decode()
    assert "cannot be sent: " in listed
    assert why in listed
    assert operator.get("/").status_code == 200


@pytest.mark.parametrize("fields", [{"args": "["}, {"interval": None}, {"every": 0}], ids=str)
def test_a_row_that_cannot_be_read_is_named_in_the_list(fields: dict[str, Any], operator: Client) -> None:
    """Of whatever field; a disabled one is nobody's trouble."""
    mine = by_hand("mine")
    rows = IntervalSchedule.objects if "every" in fields else PeriodicTask.objects
    rows.update(**fields)
    assert "cannot be sent: " in operator.get(LIST).content.decode()
    PeriodicTask.objects.filter(pk=mine.pk).update(enabled=False)
    assert "cannot be sent: " not in operator.get(LIST).content.decode()


@pytest.mark.parametrize(("zone", "warned"), [("Europe/Berlin", True), ("UTC", False)])
def test_a_schedule_that_skips_an_hour_is_saved_with_a_warning(zone: str, warned: bool, operator: Client) -> None:
    """On the page of the entry, and on that of the crontab."""
    each_hour = CrontabSchedule.objects.create(minute="15", hour="*", timezone=ZoneInfo(zone))
    mine = by_hand("mine")
    page = save(operator, mine, interval="", crontab=each_hour.pk)
    assert PeriodicTask.objects.get(pk=mine.pk).crontab == each_hour
    assert ("it skips the hour" in said(page)) is warned
    fields = {**model_to_dict(each_hour), "timezone": zone, "periodictask_set-TOTAL_FORMS": 0}
    path = reverse("admin:django_celery_beat_crontabschedule_change", args=[each_hour.pk])
    page = operator.post(path, {**fields, "minute": "20", "periodictask_set-INITIAL_FORMS": 0}, follow=True)
    assert CrontabSchedule.objects.get(pk=each_hour.pk).minute == "20"
    assert ("it skips the hour" in said(page)) is warned


def test_the_page_of_an_entry_says_what_belongs_in_an_interval(operator: Client, daily: Any) -> None:
    """Beside the fields where it is chosen."""
    assert "What runs hourly or more often belongs in an interval" in operator.get(page_of(daily)).content.decode()


def test_tokens_are_shown_and_deleted_and_never_made_or_changed(operator: Client) -> None:
    """A page would have to show a new one, and a changed one would be somebody else's."""
    tokens.create(User.objects.get(username="olga"), "nightly import", days=30)
    row = ApiToken.objects.get()
    page = operator.get(reverse("admin:celeriac_console_apitoken_changelist")).content.decode()
    assert "nightly import" in page
    assert date_format(timezone.localtime(row.expires_at), "DATETIME_FORMAT") in page
    assert row.digest not in page
    assert operator.get(reverse("admin:celeriac_console_apitoken_add")).status_code == 403
    change = reverse("admin:celeriac_console_apitoken_change", args=[row.pk])
    assert operator.post(change, {"purpose": "mine", "user": row.user_id}).status_code == 403
    operator.post(reverse("admin:celeriac_console_apitoken_delete", args=[row.pk]), {"post": "yes"})
    assert not ApiToken.objects.exists()
