"""A project with two hundred tasks: the one that is meant is found, and each of its numbers has a field for numbers."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from html import unescape
from typing import Any, Optional

import pytest
from celeriac import registry
from celeriac.console.forms import NUMBERS, StartForm
from celery import shared_task
from django.test import Client
from kombu.utils import json as kombu_json

from messages import Queue
from people import member
from TimeOut.celery import app

pytestmark = pytest.mark.django_db

MODULES = [f"shop.part{number}.tasks" for number in range(8)]


def bill(pk: int) -> None:
    """Write the bill of an order. And send it."""


@pytest.fixture
def many() -> Iterator[list[str]]:
    """The names of two hundred tasks of eight modules."""
    names = [f"{MODULES[number % 8]}.bill_{number:03}" for number in range(200)]
    for name in names:
        task = shared_task(name=name)(bill)
        app.tasks[name].__module__ = name.rpartition(".")[0]
        assert task.name == name
    yield names
    for name in names:
        app.tasks.pop(name)


@pytest.fixture
def staff(client: Client) -> Client:
    """A browser in which a member of staff is logged in."""
    client.force_login(member("anna"))
    return client


def offered(answer: Any) -> list[str]:
    """Return the tasks that a page offers to start, in its order."""
    return re.findall(r'href="/tasks/start/([^"]+)/"', answer.content.decode())


def test_tasks_stand_under_the_app_or_the_module_that_defines_them(staff: Client, many: list[str]) -> None:
    """Apps by name, and the tasks of each by theirs; in the filter of the list, too."""
    page = staff.get("/tasks/start/")
    assert re.findall(r'<h2 class="app" id="app-\d+">(\S+) ', page.content.decode()) == ["app", *MODULES]
    ours = [task.name for task in registry.registered() if task.app == "app"]
    assert offered(page) == [*ours, *sorted(many)]
    html = staff.get("/tasks/").content.decode()
    assert re.findall(r'<optgroup label="([^"]+)"', html) == ["app", *MODULES]
    assert [name for name in re.findall(r"<option>([^<]+)</option>", html) if name in many] == sorted(many)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bill_007", ["shop.part7.tasks.bill_007"]),
        ("  PART3   BILL_01 ", ["shop.part3.tasks.bill_011", "shop.part3.tasks.bill_019"]),
        ("order 199", ["shop.part7.tasks.bill_199"]),
        ("order add", []),
        ("\0", None),
        ("", None),
    ],
)
def test_a_search_needs_no_script(staff: Client, many: list[str], text: str, found: list[str] | None) -> None:
    """Each of its words is in a task's name, app or first sentence."""
    page = staff.get("/tasks/start/", {"q": text})
    assert offered(page) == (offered(staff.get("/tasks/start/")) if found is None else found)
    assert f'value="{text}"' in unescape(page.content.decode()) or text == "\0"
    assert ("No tasks match" in page.content.decode()) == (found == [])


def test_to_a_page_that_asks_while_one_types_the_list_alone_is_sent(staff: Client, many: list[str]) -> None:
    """With how many there are, for who does not see it; a cache keeps the two apart."""
    part = staff.get("/tasks/start/", {"q": "part3"}, headers={"hx-request": "true"})
    assert "<html" not in part.content.decode()
    assert offered(part) == sorted(name for name in many if "part3" in name)
    assert re.search(r'id="found" hx-swap-oob="innerHTML">25 tasks<', part.content.decode())
    assert "HX-Request" in part["Vary"]


# ==================================================================================================
# Numbers
# ==================================================================================================


def counts(
    whole: int,
    maybe: int | None,
    either: float | int,
    price: Optional[Decimal] = None,  # noqa: UP045  (projects write both)
    rate: Decimal = Decimal("1.5"),
    limit: int | None = 10,
    share: float | int | None = None,
    label: str | None = None,
) -> None: ...


@pytest.fixture
def counting() -> Iterator[str]:
    """The name of a task that takes numbers of each kind."""
    yield shared_task(name="shop.counts")(counts).name
    app.tasks.pop("shop.counts")


def test_a_parameter_that_is_a_number_has_a_field_for_numbers(staff: Client, counting: str) -> None:
    """Whatever else it may be; what may be a text, too, has none."""
    found = {each.name: (each.kind, each.nullable) for each in registry.find(counting).parameters}
    assert found == {
        "whole": ("int", False),
        "maybe": ("int", True),
        "either": ("number", False),
        "price": ("decimal", True),
        "rate": ("decimal", False),
        "limit": ("int", True),
        "share": ("number", True),
        "label": ("json", True),
    }
    html = staff.get(f"/tasks/start/{counting}/").content.decode()
    inputs = [tag for tag in re.findall(r"<(?:input|textarea)[^>]*>", html) if 'name="arg-' in tag]
    assert {re.findall(r'name="arg-(\w+)"', tag)[0] for tag in inputs if 'type="number"' in tag} == {
        name for name, (kind, _) in found.items() if kind in NUMBERS
    }
    required = [re.findall(r'name="arg-(\w+)"', tag)[0] for tag in inputs if " required" in tag]
    assert required == ["whole", "either"]


LEAST = {"arg-whole": "1", "arg-maybe": "", "arg-either": "2", "arg-limit": "10", "arg-rate": "1.5"}


@pytest.mark.parametrize(
    ("form", "changed"),
    [
        ({}, {}),
        ({"arg-maybe": "7"}, {"maybe": 7}),
        ({"arg-either": "2.0"}, {"either": 2.0}),
        ({"arg-either": "-3"}, {"either": -3}),
        ({"arg-either": "12345678901234567890"}, {"either": 12345678901234567890}),
        ({"arg-price": "0.10"}, {"price": Decimal("0.10")}),
        ({"arg-rate": "2"}, {"rate": Decimal(2)}),
        ({"arg-limit": ""}, {"limit": None}),
        ({"arg-limit": "0"}, {"limit": 0}),
        ({"arg-share": "0.5"}, {"share": 0.5}),
        ({"arg-share": "1"}, {"share": 1}),
        ({"arg-label": '"x"'}, {"label": "x"}),
    ],
)
def test_the_value_that_arrives_is_of_the_type_that_was_typed(
    staff: Client, queue: Queue, counting: str, form: dict[str, str], changed: dict[str, Any]
) -> None:
    """As the worker reads it. An empty field is None where that is allowed, else the task's own default."""
    answer = staff.post(f"/tasks/start/{counting}/", {**LEAST, **form})
    assert answer.status_code == 302, answer.context["form"].errors
    (message,) = queue.take()
    arrived = kombu_json.loads(json.dumps(message["kwargs"]))
    wanted = {"whole": 1, "maybe": None, "either": 2, **changed}
    assert arrived == wanted
    assert {name: type(value) for name, value in arrived.items()} == {
        name: type(value) for name, value in wanted.items()
    }


@pytest.mark.parametrize("field", ["whole", "either", "price", "limit", "share"])
@pytest.mark.parametrize("typed", ["two", "NaN", "Infinity", "true", '"2"', "[1]"])
def test_what_is_no_number_is_refused_at_its_field(counting: str, field: str, typed: str) -> None:
    """By the form, before anything is sent."""
    form = StartForm(registry.find(counting), {**LEAST, f"arg-{field}": typed})
    assert list(form.errors) == [f"arg-{field}"]


@pytest.mark.parametrize("field", ["whole", "either"])
def test_a_number_that_may_not_be_none_is_asked_for(counting: str, field: str) -> None:
    """It has no default."""
    assert list(StartForm(registry.find(counting), {**LEAST, f"arg-{field}": ""}).errors) == [f"arg-{field}"]
