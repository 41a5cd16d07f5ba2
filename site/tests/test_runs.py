"""What was sent: noted when it is published, found again, and sent again with the same arguments."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any
from uuid import UUID

import pytest
from celeriac import registry
from celeriac.checks.arguments import arguments_never_stored
from celeriac.console import revocations, runs
from celeriac.console.models import Revocation
from celeriac.enqueue import BrokerUnavailableError
from celeriac.ledger import retention
from celeriac.ledger.models import Dispatch
from celery import current_app, shared_task
from django.conf import LazySettings
from django.db import transaction
from django.utils import timezone
from django_celery_results.models import TaskResult
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu import Queue
from testkit.ports import free_port
from testkit.redis import Redis

from app.tasks import add, simple_function

pytestmark = pytest.mark.django_db

NESTED = {"a": [1, 2.5, None, True, {"b": [[["deep"], "Ж"], {}]}], "": [], "quotes": 'it\'s "both"'}
AS_CELERY_CARRIES = [
    datetime(2026, 3, 29, 2, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 2, 30, 15, 123456),
    date(2024, 2, 29),
    time(23, 59, 59, 1),
    UUID("a3b1c2d4-0000-4000-8000-123456789abc"),
    Decimal("0.10000000000000000000000001"),
]


class Messages:
    """What was sent, as a worker would get it."""

    def take(self, name: str = "celery") -> Any:
        """Return the next message of a queue, which is gone then; None if there is none."""
        with current_app.connection_for_read() as connection:
            queue: Any = Queue(name)
            return queue(connection.default_channel).get(no_ack=True, accept=["json"])


@pytest.fixture
def queue(broker: None) -> Messages:
    """Read from the broker what was sent."""
    return Messages()


@pytest.fixture
def results_in_redis(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let this process keep results in a real Redis; return the backend."""
    redis_server.forget(9)
    current: Any = current_app
    app = current._get_current_object()
    monkeypatch.setattr(app, "backend_cls", redis_server.database(9))
    monkeypatch.setattr(app, "_backend_cache", None)
    monkeypatch.setattr(app._local, "backend", None, raising=False)
    return app.backend


@pytest.fixture
def task() -> Iterator[Any]:
    """Make tasks that are forgotten afterwards."""
    names: list[str] = []

    def register(function: Any, **options: Any) -> Any:
        names.append(f"tests.{function.__name__}")
        decorate: Any = shared_task(name=names[-1], **options)
        return current_app.tasks[decorate(function).name]

    yield register
    for name in names:
        current_app.tasks.pop(name, None)


@pytest.mark.parametrize(
    "value",
    [NESTED, "x" * 5000, "naïve \u2028 日本語 🙂 \x00 \\", 0.1 + 0.2, 1e-320, 10**30, -0.0, None, *AS_CELERY_CARRIES],
    ids=lambda value: type(value).__name__,
)
def test_a_rerun_sends_exactly_what_was_sent(value: Any, queue: Messages, task: Any) -> None:
    """The two messages have the same arguments, byte for byte; and what the worker makes of them is what was meant."""

    def takes_anything(*args: Any, **kwargs: Any) -> None:
        pass

    task(takes_anything)
    first = runs.start("tests.takes_anything", [value, [value]], {"named": value}, by="anna")
    second = runs.rerun(first, by="boris")
    one, two = queue.take(), queue.take()
    assert one.body == two.body
    assert two.payload[:2] == [[value, [value]], {"named": value}]
    assert first != second
    run = runs.find(second)
    assert (run.parent, run.sent_by, run.args) == (first, "boris", [value, [value]])
    assert (runs.find(first).parent, runs.find(first).sent_by) == (None, "anna")
    assert runs.reruns(first) == [second]


def test_a_rerun_goes_to_the_queue_of_the_first(queue: Messages) -> None:
    """With its priority."""
    run_id = runs.start("app.tasks.add", [2, 3], priority=9, options={"queue": "side"})
    runs.rerun(run_id)
    first, again = queue.take("side"), queue.take("side")
    assert again.properties["priority"] == first.properties["priority"]
    assert queue.take() is None
    runs.rerun(runs.start("app.tasks.add", [2, 3]))
    assert queue.take().body == queue.take().body == first.body


def test_what_is_not_ours_is_not_listed_and_a_retry_only_once(queue: Messages) -> None:
    """A retry is the same run, with the same id; so is another one under this id."""
    current_app.send_task("celery.backend_cleanup")
    current_app.send_task("celeriac.ping")
    assert not runs.page().runs
    sent = add.apply_async((1, 2), countdown=30, priority=7)
    (row,) = runs.ours()
    assert row.eta is not None and 25 < (row.eta - timezone.now()).total_seconds() <= 30
    retry: Any = add.apply_async  # Celery's types do not know what its own `retry` gives
    retry((1, 2), task_id=sent.id, retries=1)
    (row,) = runs.ours()
    assert (row.name, row.retries, row.args, row.kwargs) == ("app.tasks.add", 1, "[1, 2]", "{}")
    add.apply_async((3, 4), task_id=sent.id)
    (row,) = runs.ours()
    assert (row.name, row.retries, row.args, row.kwargs) == ("app.tasks.add", 0, "[3, 4]", "{}")


def test_what_is_rolled_back_was_not_sent(queue: Messages) -> None:
    """The note is part of the transaction."""
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        simple_function.delay()
        assert Dispatch.objects.count() == 1
        raise ZeroDivisionError
    assert not Dispatch.objects.exists()


def test_a_task_is_sent_though_it_cannot_be_noted(
    queue: Messages, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller's transaction goes on, too. A name that no column takes stands for a table that is not there."""
    monkeypatch.setattr(Dispatch._meta, "db_table", "nowhere")
    with transaction.atomic():
        sent = simple_function.delay("sent")
        assert TaskResult.objects.count() == 0  # the transaction can still be used
    assert queue.take().headers["id"] == sent.id
    assert "is sent, but not in the journal" in caplog.text


def test_what_was_not_sent_is_not_noted() -> None:
    """No broker is there."""
    with pytest.raises(BrokerUnavailableError):
        runs.start("app.tasks.add", [1, 2])
    assert not Dispatch.objects.exists()


def test_arguments_that_are_not_to_be_kept_are_nowhere(queue: Messages, task: Any) -> None:
    """Not in the note, and not in what worker, events and results say about the task; it still gets them."""

    def keeps_nothing(secret: str) -> None:
        pass

    task(keeps_nothing, keep_arguments=False)
    run_id = runs.start("tests.keeps_nothing", ["hunter2"])
    message = queue.take()
    assert message.payload[0] == ["hunter2"]
    assert "hunter2" not in json.dumps(message.headers)
    run = runs.find(run_id)
    assert (run.args, run.kwargs) == (None, None)
    assert not registry.find("tests.keeps_nothing").keeps_arguments
    assert "never stored" in run.not_rerunnable
    with pytest.raises(runs.NotRerunnableError, match="never stored"):
        runs.rerun(run_id)
    assert queue.take() is None


def test_what_does_not_fit_any_more_is_not_sent_again(queue: Messages, task: Any) -> None:
    """The task takes something else since, or is gone."""

    def changed(x: int) -> None:
        pass

    task(changed)
    run_id = runs.start("tests.changed", [1])
    queue.take()

    def changed(x: int, y: int) -> None:  # type: ignore[no-redef]
        pass

    current_app.tasks.pop("tests.changed")
    task(changed)
    with pytest.raises(runs.NotRerunnableError, match="y: is required"):
        runs.rerun(run_id)
    current_app.tasks.pop("tests.changed")
    with pytest.raises(runs.NotRerunnableError, match="no task"):
        runs.rerun(run_id)
    assert queue.take() is None


def test_a_run_of_which_only_the_result_is_known_is_shown_and_not_repeated() -> None:
    """Another program sent it."""
    TaskResult.objects.create(
        task_id="abc", task_name="app.tasks.add", status="SUCCESS", result="5", task_args="'(2, 3)'"
    )
    run = runs.find("abc")
    assert (run.name, run.state, run.args) == ("app.tasks.add", "SUCCESS", None)
    with pytest.raises(runs.NotRerunnableError, match="not known"):
        runs.rerun("abc")


def test_an_id_of_nobody_is_unknown() -> None:
    """Celery would say PENDING."""
    for call in (runs.find, runs.rerun, runs.revoke):
        with pytest.raises(runs.UnknownRunError):
            call("nobody")


@pytest.mark.parametrize(
    ("options", "about"),
    [
        ({"priority": 10}, "priority"),
        ({"priority": -1}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 1.0}, "priority"),
        ({"countdown": -1}, "countdown"),
        ({"countdown": float("nan")}, "countdown"),
        ({"countdown": float("inf")}, "countdown"),
        ({"countdown": 1801}, "countdown"),
        ({"countdown": "5"}, "countdown"),
    ],
)
def test_a_priority_or_a_countdown_that_cannot_be_is_refused(
    options: dict[str, Any], about: str, queue: Messages
) -> None:
    """A task put off for longer than Redis waits would run twice: 1890 s, less the 60 it may run and 30 to stop."""
    with pytest.raises(registry.BadArgumentsError) as caught:
        runs.start("app.tasks.add", [1, 2], **options)
    assert [*caught.value.problems] == [about]
    assert queue.take() is None


def test_a_countdown_of_nothing_is_at_once(queue: Messages) -> None:
    """And the longest one is taken."""
    runs.start("app.tasks.add", [1, 2], countdown=0)
    assert not queue.take().headers["eta"]
    assert runs.find(runs.start("app.tasks.add", [1, 2], countdown=1800)).eta is not None


def test_on_rabbitmq_a_countdown_has_to_fit_into_its_consumer_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an hour, less the 60 s that `add` may run and 30 to stop."""
    monkeypatch.setitem(current_app.conf, "broker_transport_options", {"confirm_publish": True})
    assert runs.longest_countdown("app.tasks.add") == 1710


def test_old_and_too_many_are_forgotten_with_their_revocations(settings: LazySettings) -> None:
    """By age and by number, the oldest first."""
    settings.CELERIAC_LEDGER_KEEP_SECONDS = 3600
    settings.CELERIAC_LEDGER_KEEP_ROWS = 5
    now = timezone.now()
    Dispatch.objects.bulk_create(
        Dispatch(task_id=f"{number}", name="x", sent_at=now - timedelta(minutes=70 - 10 * number), ended_at=now)
        for number in range(8)
    )
    for number in range(2):
        Revocation.objects.create(task_id=f"{number}", revoked_at=now - timedelta(minutes=90 - 60 * number))
    assert retention.prune(now) == 3
    assert revocations.prune(now) == 1
    assert sorted(Dispatch.objects.values_list("task_id", flat=True)) == ["3", "4", "5", "6", "7"]
    assert [row.task_id for row in Revocation.objects.all()] == ["1"]
    assert retention.prune(now) + revocations.prune(now) == 0


# ==================================================================================================
# The list
# ==================================================================================================

STATES = ["SUCCESS", "FAILURE", None, "STARTED"]


@pytest.fixture
def forty() -> None:
    """Forty runs: a quarter each has succeeded, has failed, is not known to Celery, and runs."""
    for number in range(40):
        Dispatch.objects.create(task_id=f"{number:02}", name=f"task{number % 2}", args="[]", kwargs="{}")
        if state := STATES[number % 4]:
            TaskResult.objects.create(task_id=f"{number:02}", status=state, result="null", traceback="a long one")


def ids(page: runs.Page) -> list[int]:
    """Return the numbers of the runs on a page."""
    return [int(run.id) for run in page.runs]


def walk(direction: str, page: runs.Page, **options: Any) -> list[list[int]]:
    """Return the pages from this one to the end."""
    pages = [ids(page)]
    while cursor := getattr(page, direction):
        page = runs.page(cursor=cursor, **options)
        pages.append(ids(page))
    return pages


@pytest.mark.usefixtures("forty")
def test_the_list_is_walked_to_its_end_and_back() -> None:
    """Everything once, newest first, and the first page has nothing newer."""
    first = runs.page(size=15)
    assert first.newer is None
    assert walk("older", first, size=15) == [[*range(39, 24, -1)], [*range(24, 9, -1)], [*range(9, -1, -1)]]
    last = runs.page(cursor=runs.page(cursor=first.older or "", size=15).older or "", size=15)
    assert walk("newer", last, size=15) == [[*range(9, -1, -1)], [*range(24, 9, -1)], [*range(39, 24, -1)]]
    assert all(run.traceback == "" for run in first.runs)


@pytest.mark.usefixtures("forty")
@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"state": "FAILURE"}, [n for n in range(39, -1, -1) if n % 4 == 1]),
        ({"state": "PENDING"}, [n for n in range(39, -1, -1) if n % 4 == 2]),
        ({"name": "task1"}, [n for n in range(39, -1, -1) if n % 2]),
        ({"name": "task0", "state": "SUCCESS"}, [n for n in range(39, -1, -1) if n % 4 == 0]),
        ({"state": "RETRY"}, []),
        ({"name": "nobody's"}, []),
    ],
)
def test_the_list_is_filtered(options: dict[str, str], numbers: list[int]) -> None:
    """Also over several pages."""
    assert [*chain(*walk("older", runs.page(**options, size=3), **options, size=3))] == numbers


@pytest.mark.usefixtures("forty")
@pytest.mark.parametrize(
    "cursor", ["", "x", "older-", "older-x", "newer--1", "older-1.5", "older-" + "9" * 40, "older-¹"]
)
def test_a_cursor_that_is_none_is_the_first_page(cursor: str) -> None:
    """Somebody changed the address."""
    assert ids(runs.page(cursor=cursor, size=3)) == [39, 38, 37]


@pytest.mark.usefixtures("forty")
def test_a_page_takes_two_queries(django_assert_num_queries: Any) -> None:
    """However many runs are on it, and whatever is asked for."""
    for options in ({}, {"state": "FAILURE"}, {"name": "task0", "state": "PENDING"}):
        with django_assert_num_queries(2):
            runs.page(**options, size=40)


@pytest.mark.parametrize("state", ["", "SUCCESS", "PENDING"])
def test_with_results_in_redis_a_page_is_filtered_as_far_as_it_looks(
    state: str, monkeypatch: pytest.MonkeyPatch, results_in_redis: Any
) -> None:
    """All are found in the end, though a page may be short."""
    monkeypatch.setattr(runs, "LOOKED_AT", 10)
    for number in range(40):
        Dispatch.objects.create(task_id=f"{number:02}", name="x", args="[]", kwargs="{}")
        if number < 5:
            results_in_redis.store_result(f"{number:02}", number, "SUCCESS")
    wanted = {"": range(40), "SUCCESS": range(5), "PENDING": range(5, 40)}[state]
    pages = walk("older", runs.page(state=state, size=8), state=state, size=8)
    assert [*chain(*pages)] == sorted(wanted, reverse=True)
    assert (runs.find("03").result, runs.find("03").state) == (3, "SUCCESS")


def test_results_in_redis_being_away_is_said(results_in_redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not mistaken for a run that nobody knows."""
    Dispatch.objects.create(task_id="1", name="x", args="[]", kwargs="{}")
    monkeypatch.setattr(results_in_redis, "connparams", {**results_in_redis.connparams, "port": free_port()})
    for call in (lambda: runs.find("1"), runs.page, lambda: runs.revoke("1")):
        with pytest.raises(runs.ResultsUnavailableError):
            call()
    assert not Revocation.objects.exists()


# ==================================================================================================
# What is checked
# ==================================================================================================

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(args=st.lists(json_values, max_size=4), kwargs=st.dictionaries(st.text(max_size=5) | st.just("x"), json_values))
def test_whatever_is_checked_either_fits_or_is_refused_with_a_reason(args: list[Any], kwargs: dict[str, Any]) -> None:
    """And what fits, Python can call with: two numbers, whatever they are called."""
    try:
        registry.check("app.tasks.add", args, kwargs)
    except registry.BadArgumentsError as error:
        assert error.problems and all(error.problems.values())
    else:
        given_ = dict(zip("xy", args, strict=False)) | kwargs
        assert len(args) + len(kwargs) == 2 and given_.keys() == {"x", "y"}
        assert all(type(value) in {int, float} for value in given_.values())


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("-inf"),
        {1: "a key that becomes a text"},
        {"__type__": "uuid", "__value__": {"hex": "0" * 32}},
        {"__type__": "nothing", "__value__": 1},
        object(),
        {1, 2},
        pytest.param(10**5000, id="too many digits"),
    ],
)
def test_what_would_reach_the_worker_as_something_else_is_refused(value: Any, task: Any) -> None:
    """An object that looks like Celery's own envelope of a UUID would arrive as a UUID; another not at all."""

    def takes_all(*args: Any, **kwargs: Any) -> None:
        pass

    task(takes_all)
    for args, kwargs in (([value], {}), ([], {"k": value}), ([[{"deep": value}]], {})):
        with pytest.raises(registry.BadArgumentsError):
            registry.check("tests.takes_all", args, kwargs)


def test_every_kind_of_parameter_is_described(task: Any) -> None:
    """As the form and the API show it."""

    def takes_much(
        a: str, b: int, c: float = 1.5, *rest: int, d: bool = False, e: list[int] | None = None, **more: Any
    ) -> None:
        """Take much. And more.

        Longer.
        """

    task(takes_much, bind=False)
    found = registry.find("tests.takes_much")
    assert found.description == "Take much."
    described = [(each.name, each.kind, each.required, each.default, each.variadic) for each in found.parameters]
    assert described == [
        ("a", "str", True, None, ""),
        ("b", "int", True, None, ""),
        ("c", "float", False, 1.5, ""),
        ("rest", "json", False, None, "*"),
        ("d", "bool", False, False, ""),
        ("e", "json", False, None, ""),
        ("more", "json", False, None, "**"),
    ]
    registry.check("tests.takes_much", ["x", 1, 2], {"e": [1]})
    with pytest.raises(registry.BadArgumentsError) as caught:
        registry.check("tests.takes_much", [1, True, "x", "y"], {"d": 1, "e": ["x"], "z": 1})
    assert caught.value.problems == {
        "a": "is not a text",
        "b": "is not a whole number",
        "c": "is not a number",
        "rest[0]": "is not a whole number",
        "d": "is not true or false",
        "e": "is not a list, each item a whole number or null",
    }


def test_the_task_itself_is_no_parameter(task: Any) -> None:
    """Neither for a bound one, nor for one that is tried again by itself."""

    def bound(self: Any, x: int) -> None:
        pass

    def retried(self: Any, y: int) -> None:
        pass

    task(bound, bind=True)
    task(retried, bind=True, autoretry_for=(OSError,))
    assert [each.name for each in registry.find("tests.bound").parameters] == ["x"]
    assert [(each.name, each.kind) for each in registry.find("tests.retried").parameters] == [("y", "int")]


@pytest.mark.parametrize("name", ["", "nothing", "celery.ping", "celery.chord_unlock", "celeriac.ping", "app.tasks"])
def test_a_task_that_is_not_the_projects_cannot_be_started(name: str) -> None:
    """Celery's own are among them."""
    assert name not in [each.name for each in registry.registered()]
    for call in (registry.find, runs.start):
        with pytest.raises(registry.UnknownTaskError):
            call(name)


def test_results_in_the_database_keep_no_arguments_that_must_not_be_kept(task: Any) -> None:
    """They have only what the message says, from which the journal takes them out."""

    def keeps_nothing(secret: str) -> None:
        pass

    task(keeps_nothing, keep_arguments=False)
    assert arguments_never_stored(None) == []


def test_results_that_would_keep_what_must_not_be_kept_are_refused(
    task: Any, results_in_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis gets the true arguments with each result; without them, or without a result, all is well."""
    assert arguments_never_stored(None) == []

    def keeps_nothing(secret: str) -> None:
        pass

    made = task(keeps_nothing, keep_arguments=False)
    assert [error.id for error in arguments_never_stored(None)] == ["celeriac.E032"]
    monkeypatch.setattr(made, "ignore_result", True)
    assert arguments_never_stored(None) == []
