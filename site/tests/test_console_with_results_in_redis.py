"""The console where `CELERY_RESULT_BACKEND=redis`: the same pages, from another store, and that store away."""

import contextlib
import re
import sqlite3
from collections.abc import Iterator

import pytest
from testkit.ports import free_port
from testkit.redis import Redis
from testkit.waiting import eventually

from processes import PASSWORD, Stack, Visitor

RESULTS = {"CELERY_RESULT_BACKEND": "redis"}


@pytest.fixture(scope="module")
def redis_stack(tmp_path_factory: pytest.TempPathFactory, stack: Stack) -> Iterator[Stack]:
    """Web and worker with a Redis of their own, that a test may stop, and the people of the other stack."""
    redis = Redis(tmp_path_factory.mktemp("other-redis"), free_port(), on_disk=True, password=PASSWORD)
    redis.start()
    other = Stack(tmp_path_factory.mktemp("other-stack"), redis)
    with (
        contextlib.closing(sqlite3.connect(stack.folder / "db.sqlite3", timeout=20)) as there,
        contextlib.closing(sqlite3.connect(other.folder / "db.sqlite3")) as here,
    ):
        there.backup(here)
    port = free_port()
    other.url = f"http://localhost:{port}"
    try:
        other.spawn("worker", "celery", "-A", "TimeOut", "worker", "--loglevel=info", "--concurrency=2", **RESULTS)
        other.spawn("web", "gunicorn", "TimeOut.wsgi:application", "--bind", f"127.0.0.1:{port}", **RESULTS)
        eventually(lambda: " ready." in other.log("worker"), what="the worker is ready")
        eventually(lambda: "Listening at" in other.log("web"), what="the web server listens")
        yield other
    finally:
        other.stop()
        redis.stop()


class Reader(Visitor):
    """A member of staff at a browser."""

    def page(self, path: str) -> str:
        """Return a page, which has to be there."""
        answer = self.ask(path)
        assert answer.status == 200, answer.text
        return answer.text

    def start(self, task: str, form: dict[str, str]) -> str:
        """Start a task by its form; return the path of its page."""
        answer = self.ask(f"/tasks/start/app.tasks.{task}/", form)
        assert answer.status == 302, answer.text
        return str(answer.headers["Location"])

    def state(self, path: str) -> str:
        """Return the state that the page of a run shows."""
        (state,) = re.findall(r'<p class="now"><span class="state (\w+)"', self.page(path))
        return str(state).upper()


@pytest.fixture(scope="module")
def reader(redis_stack: Stack) -> Reader:
    """Anna."""
    reader = Reader(redis_stack.url)
    reader.headers["Accept"] = "text/html"
    reader.log_in()
    return reader


def test_a_run_is_shown_with_its_result_and_can_be_run_again(reader: Reader) -> None:
    """On its page and in the list, whichever way the list is filtered."""
    path = reader.start("simple_function", {"arg-text": "straw"})
    eventually(lambda: reader.state(path) == "SUCCESS", what="it has succeeded")
    assert "STRAW" in reader.page(path)
    for query in (
        "",
        "?state=SUCCESS",
        "?name=app.tasks.simple_function",
        "?state=SUCCESS&name=app.tasks.simple_function",
    ):
        assert path in reader.page(f"/tasks/{query}")
    assert path not in reader.page("/tasks/?state=FAILURE")
    again = str(reader.ask(f"{path}rerun/", {}).headers["Location"])
    assert again != path
    eventually(lambda: reader.state(again) == "SUCCESS", what="the rerun has succeeded")


def test_an_error_and_a_time_out_are_shown_as_what_they_are(reader: Reader) -> None:
    """Not as the dictionary that Redis holds."""
    fails, late = reader.start("always_fails", {"arg-text": "on purpose"}), reader.start("exceeds_time_limit", {})
    eventually(lambda: reader.state(fails) == reader.state(late) == "FAILURE", what="both have failed")
    assert "RuntimeError: on purpose" in reader.page(fails)
    assert "TimeLimitExceeded" in reader.page(late)


def test_what_waits_is_revoked_and_what_runs_terminated(reader: Reader) -> None:
    """Their pages say so soon."""
    waits = reader.start("add", {"arg-x": "1", "arg-y": "2", "countdown": "60"})
    runs = reader.start("add", {"arg-x": "1", "arg-y": "2"})
    eventually(lambda: reader.state(runs) == "STARTED", what="it runs")
    assert reader.ask(f"{waits}revoke/", {}).status == 302
    assert reader.ask(f"{runs}terminate/", {}).status == 302
    eventually(lambda: reader.state(waits) == reader.state(runs) == "REVOKED", what="both are revoked")


def test_the_graphs_say_what_cannot_be_counted(reader: Reader) -> None:
    """The queue can, ended tasks cannot."""
    assert "Results are kept in Redis here" in reader.page("/tasks/graphs/")


def test_pages_say_that_the_results_are_away(redis_stack: Stack, reader: Reader) -> None:
    """And come soon, with 503; the home page is still there for everybody."""
    path = reader.start("post_counter_update", {})
    redis_stack.redis.stop()
    try:
        for page in ("/tasks/", path):
            answer = reader.ask(page)
            assert answer.status == 503
            assert "The result backend is unavailable" in answer.text
        with_html, reader.headers = reader.headers, {"Accept": "application/json"}
        assert reader.ask(path).json == {"error": "The result backend is unavailable."}
        reader.headers = with_html
        assert "Not known: the result backend is unavailable." in reader.page("/")
        refused = reader.ask("/tasks/start/app.tasks.add/", {"arg-x": "1", "arg-y": "2"})
        assert (refused.status, "The broker is unavailable" in refused.text) == (503, True)
    finally:
        redis_stack.redis.start()
    eventually(lambda: reader.ask("/tasks/").status == 200, what="the results are back")
