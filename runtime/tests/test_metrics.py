"""What Prometheus reads of a site: true, whole, for who may, and there while others are not."""

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import redis as redis_client
from environment import TOKEN
from ledgers import Project, running, with_ledger
from listening import NO_CONTROL_SOCKET
from prometheus_client.parser import text_string_to_metric_families
from supervised import Supervised, supervised
from testkit.ports import free_port
from testkit.postgresql import PostgreSQL
from testkit.redis import Redis
from testkit.waiting import comes_true
from workers import let_end, record, worker

from celeriac.figures import BUCKETS, SENT_AT, Histogram
from celeriac.web.exposition import Page

METRICS_TOKEN = "the-token-of-prometheus"
PATH = "/-/celeriac/metrics"
SERVICES = ("broker", "workers", "database")

# By name and labels.
Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def values_in(text: str) -> Values:
    """Return the values of a page, as the client library of Prometheus reads it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Scraper:
    """A site's web process, and who asks it.

    Args:
        port: of its gunicorn, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, path: str = PATH, token: str = METRICS_TOKEN, method: str = "GET") -> tuple[int, str, str]:
        """Send a request; return the status, the kind of content, and the content."""
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            client.request(method, path, headers={"Authorization": f"Bearer {token}"})
            answer = client.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
        finally:
            client.close()

    def sum(self, name: str, away: str = "", **labels: str) -> float | None:
        """Return a value of one page, of all workers together.

        Returns:
            None where there is none, or somebody did not answer in time, as on a busy computer not everybody does.

        Args:
            name: of the value.
            away: services of which it is known that they do not answer.
            labels: that it has.
        """
        values = values_in(self.ask()[2])
        up = {dict(given)["service"]: value for (each, given), value in values.items() if each == "celeriac_up"}
        if up != {each: each not in away.split() for each in SERVICES}:
            return None
        found = [
            value for (each, given), value in values.items() if each == name and labels.items() <= dict(given).items()
        ]
        return sum(found) if found else None

    def shows(self, name: str, value: float, away: str = "", **labels: str) -> bool:
        """Wait until a value is this one; return whether it became so."""
        return comes_true(lambda: self.sum(name, away, **labels) == value, 120)

    def shows_more(self, name: str, value: float, **labels: str) -> bool:
        """Wait until a value is more than this one; return whether it became so."""
        return comes_true(lambda: (self.sum(name, **labels) or 0) > value, 120)


@contextmanager
def web(environment: dict[str, str]) -> Iterator[Scraper]:
    """Run the web process of a project."""
    port = free_port()
    command = [
        "--preload",
        *NO_CONTROL_SOCKET,
        f"--bind=127.0.0.1:{port}",
        "--workers=2",
        "celeriac.web.wsgi:application",
    ]
    with supervised("gunicorn", *command, environment=environment) as running:
        running.told("READY=1")
        yield Scraper(port)


def with_token(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment of a process whose figures somebody may read."""
    return {**environment, "CELERIAC_METRICS_TOKEN": METRICS_TOKEN}


@contextmanager
def sender_of(environment: dict[str, str]) -> Iterator[Project]:
    """Run a process that sends tasks as one of a host does."""
    with running(environment) as project:
        project.call("celeriac.figures", "connect")
        yield project


@pytest.fixture
def watched(ledger_environment: dict[str, str]) -> dict[str, str]:
    """The environment of a project with the journal, whose figures somebody may read, with a queue of the inventory."""
    environment = with_token(with_ledger(ledger_environment, CELERY_IMPORTS=["work.deadly"]))
    return {**environment, "CELERIAC_QUEUES": json.dumps(["mail", "celery"]), "CELERIAC_TASK_DELIVERIES": "2"}


def test_tasks_are_counted_by_how_they_end(watched: dict[str, str]) -> None:
    with ExitStack() as stack:
        only: Supervised = stack.enter_context(worker(watched))
        scraper = stack.enter_context(web(watched))
        project = stack.enter_context(sender_of(watched))
        only.told("READY=1")
        for number in range(3):
            project.send(f"{number}", 0.2)
        project.send("broken", task="fail")
        project.send("again", 0, task="retry_once")
        project.send("poison", "killed", task="work.deadly.dies")
        project.send("late", 0, expires=-1)
        project.send("long", task="wait_for_file", time_limit=1)
        ends = {
            ("sleep", "SUCCESS"): 3,
            ("fail", "FAILURE"): 1,
            ("retry_once", "RETRY"): 1,
            ("retry_once", "SUCCESS"): 1,
            ("sleep", "REVOKED"): 1,
            ("wait_for_file", "FAILURE"): 1,
        }

        # One that was sent long ago, and is due now.
        plain = stack.enter_context(running(watched))
        plain.send("due", 0, task="early", countdown=0.5, headers={SENT_AT: time.time() - 3600})
        for (task, state), count in ends.items():
            assert scraper.shows("celeriac_tasks_total", count, task=f"work.tasks.{task}", state=state), (task, state)
        assert scraper.shows("celeriac_parked_tasks", 1)
        assert scraper.shows("celeriac_tasks_total", 2, task="work.deadly.dies")
        assert scraper.shows("celeriac_tasks_total", 2, state="LOST"), "what its limit ended is counted twice"
        sleeps = {"task": "work.tasks.sleep"}
        assert scraper.shows("celeriac_task_run_seconds_count", 3, **sleeps)
        assert scraper.shows("celeriac_task_run_seconds_bucket", 0, **sleeps, le="0.1")
        assert scraper.shows("celeriac_task_run_seconds_bucket", 3, **sleeps, le="+Inf")
        assert scraper.shows_more("celeriac_task_run_seconds_sum", 0.59, **sleeps)
        assert scraper.shows("celeriac_task_wait_seconds_count", 3, **sleeps)
        assert scraper.shows("celeriac_task_wait_seconds_bucket", 1, task="work.tasks.early", le="1800")
        assert scraper.shows("celeriac_worker_slots", 2)


def queues_that_wait(scraper: Scraper) -> set[str]:
    """Return the queues in which something waits that is due."""
    values = values_in(scraper.ask()[2])
    return {dict(labels)["queue"] for name, labels in values if name == "celeriac_queue_oldest_seconds"}


def test_who_waits_is_counted_and_for_how_long(watched: dict[str, str], redis: Redis) -> None:
    """In the queue, and for the worker's histogram until it starts; one with a time to come waits from then on."""
    with ExitStack() as stack:
        scraper = stack.enter_context(web(watched))
        project = stack.enter_context(sender_of(watched))
        project.send("gate", task="wait_for_file")
        project.send("letter", 0, queue="mail")
        project.send("future", 0, countdown=3600)
        assert scraper.shows("celeriac_queue_messages", 1, queue="mail")
        assert scraper.shows("celeriac_queue_messages", 2, queue="celery")
        assert scraper.shows_more("celeriac_queue_oldest_seconds", 0.5, queue="celery")
        assert scraper.shows("celeriac_journal_open_tasks", 3)
        only: Supervised = stack.enter_context(worker(watched))
        only.waits(lambda: record(watched) == ["began gate"], "start")
        assert scraper.shows("celeriac_worker_tasks", 1)
        # Of those that are due only the letter waits, when the journal has the start.
        only.waits(lambda: queues_that_wait(scraper) == {"mail"}, "start in the journal")
        with redis_client.Redis.from_url(redis.url) as client:
            client.delete("mail")
        assert scraper.shows("celeriac_queue_oldest_seconds", 0, queue="mail"), "emptied by hand"
        let_end(watched, "gate")
        waited = {"task": "work.tasks.wait_for_file"}
        assert scraper.shows("celeriac_task_wait_seconds_count", 1, **waited)
        assert scraper.shows_more("celeriac_task_wait_seconds_sum", 0.5, **waited)
        assert scraper.shows("celeriac_task_wait_seconds_bucket", 0, **waited, le="0.5")


def test_what_is_away_is_said_and_the_rest_is_there(
    watched: dict[str, str], redis: Redis, postgresql: PostgreSQL
) -> None:
    with web(watched) as scraper:
        assert scraper.shows("celeriac_queue_messages", 0, queue="celery")
        redis.stop()
        try:
            assert scraper.shows("celeriac_journal_not_noted_total", 0, away="broker workers")
            assert "celeriac_queue_messages" not in scraper.ask()[2]
        finally:
            redis.start()
        postgresql.stop()
        try:
            assert scraper.shows("celeriac_queue_messages", 0, away="database", queue="celery")
            assert "celeriac_journal" not in scraper.ask()[2]
        finally:
            postgresql.start()
        assert scraper.shows("celeriac_journal_not_noted_total", 0)


def test_a_project_without_the_journal_has_the_rest(environment: dict[str, str]) -> None:
    with web(with_token(environment)) as scraper:
        assert scraper.shows("celeriac_queue_messages", 0, queue="celery")
        assert scraper.shows("celeriac_release_info", 1, release="0123456789ab")
        assert "celeriac_journal" not in scraper.ask()[2]


def test_only_who_has_the_token_reads_it_and_reads_nothing_else(environment: dict[str, str]) -> None:
    with web(with_token(environment)) as scraper:
        status, kind, _ = scraper.ask()
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        for token in (TOKEN, "", f"{METRICS_TOKEN}x"):
            assert scraper.ask(token=token)[0] == 404
        assert scraper.ask(method="POST")[0] == 405
        assert scraper.ask("/-/celeriac/ping", method="POST")[0] == 404
        assert scraper.ask("/-/celeriac/status")[0] == 404
    with web(environment) as scraper:
        assert scraper.ask(token="")[0] == 404
        assert scraper.ask()[0] == 404


def test_a_value_may_be_any_text() -> None:
    page, text = Page(), 'a "b"\n\\c\\n'
    page.add("one", "gauge", "One.", [({"name": text, "other": "x"}, 2.5), ({}, 10**12)])
    page.add("two_total", "counter", "Two.", [({}, 1)])
    page.add("one", "gauge", "One.", [({"name": "y"}, 3)])
    assert values_in(str(page)) == {
        ("one", frozenset({("name", text), ("other", "x")})): 2.5,
        ("one", frozenset()): 10**12,
        ("one", frozenset({("name", "y")})): 3,
        ("two_total", frozenset()): 1,
    }
    assert str(page).count("# TYPE one gauge") == 1


def test_each_value_is_in_the_buckets_that_are_as_large() -> None:
    page, histogram = Page(), Histogram()
    for seconds in (0.0, BUCKETS[0], 0.07, BUCKETS[-1] + 1):
        histogram.observe(seconds)
    page.add_histogram("x_seconds", "X.", {"task": "t"}, histogram.counts, histogram.sum)
    found: dict[str, Any] = {
        dict(labels).get("le", name): value for (name, labels), value in values_in(str(page)).items()
    }
    assert (found["0.01"], found["0.05"], found["0.1"], found["1800"], found["+Inf"]) == (2, 2, 3, 3, 4)
    assert found["x_seconds_count"] == 4
    assert found["x_seconds_sum"] == pytest.approx(0.01 + 0.07 + 1801)
