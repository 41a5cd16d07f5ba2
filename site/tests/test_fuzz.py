"""Whatever is sent to the API, and to the form that starts a task: never a 500, never a task that was not asked for."""

import json
import math
from typing import Any
from urllib.parse import quote

import pytest
from celeriac import registry
from celeriac.console import forms
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messages import Queue
from people import member

pytestmark = pytest.mark.django_db

# One test is one transaction and one queue: each example empties what it has sent.
lightly = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

TASKS = registry.registered()
NAMES = sorted({parameter.name for task in TASKS for parameter in task.parameters})

# What is special to somebody on the way: NUL to PostgreSQL, half a character to UTF-8, an envelope to kombu's JSON, a
# number that only Python takes, a path to a URL.
ODD_TEXTS = [
    *("", " ", "\x00", "\ud800", "null", "NaN", "1e999", "9" * 5000, "⁵", "../..", "a/b", "%00", "__type__", "{", "'"),
]
ENVELOPES = [
    {"__type__": "datetime", "__value__": "2026-03-29T02:30:00"},
    {"__type__": "uuid", "__value__": {"hex": "no"}},
    {"__type__": "decimal", "__value__": None},
    {"__type__": "app.models.Post", "__value__": 1},
]
FILTERS = ["state", "name", "entry", "cursor", "size"]

texts = st.one_of(st.text(max_size=30), st.sampled_from(ODD_TEXTS))
numbers = st.one_of(st.integers(-10, 10), st.integers(), st.just(10**400), st.floats(allow_nan=False))
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    st.one_of(scalars, st.sampled_from(ENVELOPES)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)
fitting = {
    **{"str": texts, "int": st.integers(-10, 10), "float": numbers, "bool": st.booleans()},
    "number": numbers,
    "decimal": numbers,
    "json": st.one_of(numbers, st.lists(texts, max_size=3), values),
}
rarely = st.integers(0, 9).map(lambda number: number == 9)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, list[Any], dict[str, Any]]:
    """A call of a task: most of them fit, or nearly."""
    task = draw(st.sampled_from(TASKS))
    given = [draw(values if draw(rarely) else fitting[parameter.kind]) for parameter in task.parameters]
    by_position = draw(st.integers(0, len(given)))
    names = [parameter.name for parameter in task.parameters]
    args, kwargs = given[:by_position], dict(zip(names[by_position:], given[by_position:], strict=True))
    if draw(rarely):
        args.append(draw(values))
    if draw(rarely):
        kwargs[draw(st.sampled_from(NAMES) | texts)] = draw(values)
    if draw(rarely) and kwargs:
        del kwargs[draw(st.sampled_from(sorted(kwargs)))]
    return task.name, args, kwargs


@st.composite
def bodies(draw: st.DrawFn) -> Any:
    """What a program sends to start a task, or nearly."""
    name, args, kwargs = draw(calls())
    body: dict[str, Any] = {"task": name, "args": args, "kwargs": kwargs}
    if draw(st.booleans()):
        body["priority"] = draw(scalars if draw(rarely) else st.integers(0, 9))
    if draw(st.booleans()):
        body["countdown"] = draw(scalars if draw(rarely) else st.floats(0, 50))
    if draw(rarely):
        body[draw(st.sampled_from([*body, "more"]))] = draw(values)
    return body


@pytest.fixture
def anna(client: Client) -> Client:
    """A member of staff, logged in. An error in the site is a 500, as it is for everybody else."""
    client.force_login(member("anna"))
    client.raise_request_exception = False
    return client


def same(one: Any, other: Any) -> bool:
    """Compare as JSON: 1, 1.0 and true are three things."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@lightly
@given(body=bodies())
def test_the_api_sends_exactly_what_was_asked_for_or_nothing(body: Any, anna: Client, queue: Queue) -> None:
    """202 and one message with these arguments, or a refusal with a reason and none."""
    answer = anna.post("/tasks/api/runs", json.dumps(body), content_type="application/json")
    messages = queue.take()
    if answer.status_code == 202:
        (message,) = messages
        assert message["id"] == answer.json()["id"]
        assert message["task"] == body["task"]
        assert same([message["args"], message["kwargs"]], [body["args"], body["kwargs"]])
        shown = anna.get(answer["Location"])
        assert shown.status_code == 200
        assert shown.json()["name"] == body["task"]
    else:
        assert answer.status_code in {400, 404, 422}, answer.content
        assert answer.json()["error"]
        assert messages == []


@lightly
@given(body=st.one_of(st.binary(max_size=60), values.map(json.dumps).map(str.encode)))
@pytest.mark.parametrize("path", ["/tasks/api/runs", "/tasks/api/runs/1/revoke", "/tasks/api/runs/1/rerun"])
def test_the_api_bears_any_body(path: str, body: bytes, anna: Client, queue: Queue) -> None:
    """Whatever its type is said to be."""
    for content_type in ("application/json", "application/x-www-form-urlencoded", "text/plain"):
        answer = anna.post(path, body, content_type=content_type)
        assert 400 <= answer.status_code < 500, answer.content
        assert answer.json()["error"]
    assert queue.take() == []


@lightly
@given(text=texts, query=st.dictionaries(st.sampled_from(FILTERS), texts | numbers.map(str)))
def test_the_api_bears_any_address(text: str, query: dict[str, str], anna: Client, queue: Queue) -> None:
    """Ids, filters, cursors."""
    path = quote(text, safe="/", errors="replace")
    asked = {name: value.encode(errors="replace").decode() for name, value in query.items()}
    assert anna.get("/tasks/api/runs", asked).status_code in {200, 422}
    for answer in (
        anna.get(f"/tasks/api/runs/{path}"),
        anna.post(f"/tasks/api/runs/{path}/rerun"),
        anna.get(f"/tasks/api/{path}"),
    ):
        assert answer.status_code in {200, 302, 404, 405, 422}, (path, answer.content)
    assert queue.take() == []


@st.composite
def filled_in(draw: st.DrawFn) -> tuple[str, dict[str, str]]:
    """What a browser sends of a form that starts a task: texts, one for each field that somebody filled in."""
    name, _, kwargs = draw(calls())
    fields = {}
    for parameter in registry.find(name).parameters:
        if parameter.name in kwargs:
            value = kwargs[parameter.name]
            as_text = isinstance(value, str) and (parameter.kind != "json" or draw(st.booleans()))
            fields[forms.PREFIX + parameter.name] = value if as_text else json.dumps(value)
    for field in draw(st.sets(st.sampled_from(["", "", "priority", "countdown"]), max_size=1)) - {""}:
        fields[field] = draw(texts | numbers.map(str))
    return name, {field: text.encode(errors="replace").decode() for field, text in fields.items()}


@lightly
@given(form=filled_in())
def test_the_form_sends_exactly_what_was_filled_in_or_nothing(
    form: tuple[str, dict[str, str]], anna: Client, queue: Queue
) -> None:
    """On to the page of the run and one message with these arguments, or the form again and none."""
    name, fields = form
    answer = anna.post(f"/tasks/start/{name}/", fields)
    messages = queue.take()
    if answer.status_code != 302:
        assert answer.status_code == 400, answer.content
        assert messages == []
        return
    (message,) = messages
    assert (message["task"], message["args"]) == (name, [])
    for parameter in registry.find(name).parameters:
        text = fields.get(forms.PREFIX + parameter.name)
        sent = message["kwargs"].get(parameter.name, parameter.default)
        assert means(parameter, text, sent), (parameter, text, sent)
    assert anna.get(answer["Location"]).status_code == 200


def means(parameter: registry.Parameter, text: str | None, sent: Any) -> bool:
    """Say whether a value is what a field of this kind says; None for a field that was not there."""
    match parameter.kind:
        case "bool":
            return sent is (text not in {None, "", "False", "false", "0"})  # a box that is not ticked is not sent
        case "str" if text is not None:
            return bool(sent == text)  # an emptied field is the empty text
        case "int" | "float" | "number" if text and text.strip():
            return type(sent) in {int, float} and math.isclose(float(text), sent)
        case "json" if text and text.strip():
            return same(sent, json.loads(text))
    return same(sent, parameter.default)
