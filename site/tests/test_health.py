"""`/health/` is red when something is unavailable, and never hangs."""

import threading

import pytest
from celeriac.probe import Probe
from testkit.ports import free_port
from testkit.waiting import eventually

from processes import Stack, Visitor


def test_health_is_green_while_everything_answers(stranger: Visitor) -> None:
    """For everybody: a load balancer does not log in."""
    answer = stranger.ask("/health/")
    assert answer.status == 200
    assert answer.json == {"database": "ok", "broker": "ok"}
    assert "no-store" in answer.headers["Cache-Control"]


def test_without_its_broker_the_site_says_so_and_recovers_by_itself(idle_stack: Stack) -> None:
    """Health names what is unavailable, nothing is started; then the first try works again.

    A worker that has a task when it loses Redis may end itself (Celery 5.7). On a host it does not:
    `celeriac.worker.reconnect`.
    """
    stack, anna = idle_stack, Visitor(idle_stack.url)
    anna.log_in()
    stack.redis.stop()
    try:
        red = anna.ask("/health/")
        assert (red.status, red.json) == (503, {"database": "ok", "broker": "unavailable"})
        assert anna.ask("/").status == 200
        refused = anna.ask("/tasks/add/", {"x": 1, "y": 2})
        assert refused.status == 503
    finally:
        stack.redis.start()
    assert anna.ask("/health/").status == 200
    accepted = anna.ask("/tasks/add/", {"x": 1, "y": 2})
    assert accepted.status == 202
    eventually(lambda: stack.succeeded(accepted.json["id"]), what="the worker came back")


@pytest.fixture
def frozen_site(stack: Stack, silent_port: int) -> Visitor:
    """The site on a database and a broker that accept connections and never answer."""
    port = free_port()
    stack.spawn(
        *("frozen", "gunicorn", "TimeOut.wsgi:application", "--bind", f"127.0.0.1:{port}"),
        DATABASE_URL=f"postgres://site:x@127.0.0.1:{silent_port}/site",
        REDIS_PORT=str(silent_port),
    )
    eventually(lambda: "Listening at" in stack.log("frozen"), what="the web server listens")
    return Visitor(f"http://localhost:{port}")


def test_frozen_servers_are_unavailable_soon(frozen_site: Visitor) -> None:
    """Both at once, and again while the first questions are still open."""
    frozen_site.ask("/tasks/add/")  # the first request of a process also imports the pages
    for _ in range(2):
        answer = frozen_site.ask("/health/")
        assert (answer.status, answer.json) == (503, {"database": "unavailable", "broker": "unavailable"})


def test_a_question_that_hangs_is_asked_by_one_thread_only() -> None:
    """However often health is asked, or a frozen server would fill the process with threads."""
    answer = threading.Event()

    def ask() -> None:
        answer.wait()

    probe = Probe("test", ask)
    before = threading.active_count()
    questions = {id(probe.start()) for _ in range(20)}
    assert len(questions) == 1
    assert threading.active_count() == before + 1
    answer.set()
    probe.start().result(timeout=60)
    eventually(lambda: threading.active_count() == before, what="the thread has ended")
    assert id(probe.start()) not in questions
