"""What a status says of the broker, and of the tasks, to a person."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.celeriac.site.plugins.module_utils.site_report import as_text

STOCK = "stock: kombu 5.8.0 is not one of those it was tried with"


def lines(
    broker: dict[str, Any] | None,
    off: list[str] | None = None,
    workers: dict[str, Any] | None = None,
    maintenance: dict[str, Any] | None = None,
    timers: dict[str, Any] | None = None,
    alerts: dict[str, Any] | None = None,
) -> list[str]:
    """What is said of a host whose broker and workers are so, and of nothing else that is amiss."""
    report: dict[str, Any] = {
        "release": "aaaaaaaaaaaa",
        "since": "2026-03-29T12:00:00+00:00",
        "by": "anna",
        "commit": None,
        "last": {"outcome": "serving"},
        "back_to": [],
        "units": {},
        "timers": timers or {},
        "drains": [],
        "candidates": [],
        "disk": {"used_percent": 1, "free_bytes": 1},
        "workers": workers or {},
        "queues": {},
        "ledger": None,
        "off": off or [],
        "broker": broker,
        "certificate": None,
        "renewal": None,
        "member": None,
        "database": None,
        "maintenance": maintenance,
        "backup": None,
        "alerts": alerts,
    }
    return [str(line) for line in as_text(report)[1:-2]]


@pytest.mark.parametrize(
    ("broker", "line"),
    [
        ({"transport": "celeriac", "memory": 0.024, "parked": 0}, "broker: celeriac, 2 % full, 0 parked"),
        ({"transport": STOCK, "memory": 0.79, "parked": 0}, f"broker: {STOCK}, 79 % full, 0 parked"),
        ({"transport": "amqp", "memory": None, "parked": 0}, "broker: amqp, 0 parked"),
    ],
)
def test_a_broker_that_is_well_is_one_line(broker: dict[str, Any], line: str) -> None:
    assert lines(broker) == [line]


def test_of_a_broker_that_is_nearly_full_it_says_what_to_do() -> None:
    assert any(
        "redis_maxmemory_mb" in line for line in lines({"transport": "celeriac", "memory": 0.8, "parked": 0})[1:]
    )


def test_of_what_is_parked_it_says_how_to_see_and_to_release_it() -> None:
    (line,) = lines({"transport": "celeriac", "memory": None, "parked": 2})[1:]
    assert "`site-manage task parked`" in line
    assert "`site-manage task release ID`" in line


def test_of_a_release_that_says_nothing_of_its_broker_nothing_is_said() -> None:
    assert lines(None) == []


def test_what_an_older_library_cannot_do_is_named() -> None:
    said = "soft shutdown: celery 5.4.0 has none, what still runs is cancelled"
    assert lines(None, [said]) == [f"off is the {said}"]


def worker(counts: dict[str, int] | None, **others: list[str]) -> dict[str, Any]:
    """What a worker says of itself, one of an older release without a word of its tasks."""
    guarantees = {"counts": counts, "others": others} if counts is not None else None
    return {"active": 0, "executed": 1, "guarantees": guarantees}


def test_of_tasks_it_says_which_guarantee_they_have_and_why() -> None:
    """Once, though two workers have the same."""
    counts = {"at_least_once": 12, "at_most_once": 1, "neither": 1}
    same = worker(counts, send=["at_most_once", "task"], read=["neither", "project"])
    said = lines(None, workers={"a": same, "b": same, "old": worker(None), "bare": worker({})})
    assert [line for line in said if not line.startswith("worker ")] == [
        "tasks: 12 at least once, 1 at most once, 1 again with a lost worker, not with a lost process; "
        "send (at most once: task), read (again with a lost worker, not with a lost process: project)"
    ]


def test_of_many_tasks_it_names_some() -> None:
    others = {f"task{number}": ["at_most_once", "task"] for number in range(12)}
    (line,) = lines(None, workers={"a": worker({"at_least_once": 20, "at_most_once": 12}, **others)})[1:]
    assert line.count("(at most once: task)") == 10
    assert line.endswith(" and 2 more")


@pytest.mark.parametrize(("paused", "words"), [(True, "are paused"), (False, "run")])
def test_of_a_maintenance_it_says_since_when_and_what_the_processes_do(paused: bool, words: str) -> None:
    now = {"since": "2027-01-31T12:00:00Z", "by": "anna", "paused": paused, "why": "It does not fit."}
    line, why = lines(None, maintenance=now)
    assert why == "It does not fit."
    assert line == (
        f"maintenance since 2027-01-31T12:00:00Z, by anna: people are answered 503, workers and beat {words}"
    )


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ({}, "a: last run ended at then, next run at soon"),
        ({"ended": None}, "a: did not run in this release yet, next run at soon"),
        ({"runs": True}, "a: runs now, next run at soon"),
        ({"failed": "timeout"}, "a: FAILED at then (timeout; journalctl -t a), next run at soon"),
        ({"timer": "inactive"}, "a: last run ended at then, its timer is inactive"),
    ],
)
def test_of_a_timer_it_says_how_the_last_run_ended(found: dict[str, Any], line: str) -> None:
    timer = {"unit": "a.service", "timer": "active", "runs": False, "ended": "then", "failed": None, "next": "soon"}
    assert lines(None, timers={"a": timer | found}) == [line]


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ({}, "alerts: nothing to tell, last look at then"),
        ({"told": 2}, "alerts: 2 told, last look at then"),
        ({"ended": None}, "alerts: nothing to tell, last look at no time yet"),
        ({"timer": "inactive"}, "alerts: NONE, their timer is inactive"),
        ({"why_not": "No server.", "told": 2}, "alerts: NOT SENT at then: No server. Next try: soon"),
    ],
)
def test_of_alerts_it_says_whether_they_arrive(found: dict[str, Any], line: str) -> None:
    assert lines(
        None, alerts={"timer": "active", "told": 0, "why_not": "", "ended": "then", "next": "soon"} | found
    ) == [line]
