"""What ``GET /-/celeriac/metrics`` answers: the site in figures, as Prometheus reads them.

Nobody counts for it in this process, which is one of several: queues are read from the broker, what became of tasks
from the workers, which count it (`celeriac.worker.figures`), and the rest from the journal. Each of the three is asked
within a bound of its own, and what does not answer is missing, and says so: ``celeriac_up``.
"""

from collections.abc import Callable
from concurrent.futures import wait
from functools import cache
from typing import Any

from celery import Celery
from django.apps import apps
from django.db import connection

from celeriac import parked
from celeriac.broker import connect, inspector, memory, sizes
from celeriac.probe import ANSWER_SECONDS, Probe
from celeriac.project import release
from celeriac.web.exposition import COUNTER, GAUGE, Page

# Workers that are there answer sooner; on RabbitMQ, which does not tell how many there are, this is waited out.
_WORKERS_SECONDS = 1.0


def page(app: Celery) -> str:
    """Return all figures, within about two seconds.

    Args:
        app: of the project, with its tasks.
    """
    questions = {name: probe.start() for name, probe in _probes(app).items()}
    answered, _ = wait(questions.values(), timeout=ANSWER_SECONDS)
    found = {
        name: question.result() if question in answered and question.exception() is None else None
        for name, question in questions.items()
    }
    page = Page()
    page.add("celeriac_release_info", GAUGE, "The release that answers.", [({"release": release()}, 1)])
    up = [({"service": name}, answer is not None) for name, answer in found.items()]
    page.add("celeriac_up", GAUGE, "Whether it answered within two seconds.", up)
    _add_broker(page, found["broker"] or {})
    _add_workers(page, found["workers"] or {})
    _add_database(page, found["database"] or {}, found["broker"] or {})
    return str(page)


@cache
def _probes(app: Celery) -> dict[str, Probe[dict[str, Any]]]:
    """Return what is asked; each hangs in one thread at most, however often somebody asks."""
    questions: dict[str, Callable[[], dict[str, Any]]] = {
        "broker": lambda: _ask_broker(app),
        "workers": lambda: _ask_workers(app),
        "database": _ask_database,
    }
    return {name: Probe(name, ask) for name, ask in questions.items()}


def _ask_broker(app: Celery) -> dict[str, Any]:
    with connect(app) as broker:
        return {
            "queues": sizes(app, broker),
            "memory": memory(broker),
            "parked": parked.count(broker),
        }


def _ask_workers(app: Celery) -> dict[str, Any]:
    with connect(app) as broker:
        inspect = inspector(app, broker, _WORKERS_SECONDS)
        return (inspect.stats() or {}) if inspect else {}


def _ask_database() -> dict[str, Any]:
    """Return what the journal knows; nothing of a project without one, whose database is asked all the same."""
    try:
        if not apps.is_installed("celeriac.ledger"):
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            return {}
        from celeriac.ledger.report import oldest_waiting, report  # has models, which a project may not have

        return {**report(), "oldest": oldest_waiting()}
    finally:
        connection.close()  # connections are per thread, and this thread ends here


def _add_broker(page: Page, found: dict[str, Any]) -> None:
    if not found:
        return
    queues = [({"queue": name}, size) for name, size in found["queues"].items()]
    page.add("celeriac_queue_messages", GAUGE, "Messages that wait, and no worker has.", queues)
    page.add(
        "celeriac_parked_tasks", GAUGE, "Tasks that did not end so often that they are parked.", [({}, found["parked"])]
    )
    if found["memory"] is not None:
        page.add(
            "celeriac_broker_memory_ratio",
            GAUGE,
            "How full the broker is; at 1 it refuses tasks.",
            [({}, found["memory"])],
        )


def _add_workers(page: Page, found: dict[str, Any]) -> None:
    ends = "Tasks by how they ended: Celery's states, and LOST with their process."
    for worker, stats in found.items():
        slots = stats.get("pool", {}).get("max-concurrency")
        if isinstance(slots, int):
            page.add("celeriac_worker_slots", GAUGE, "Tasks that it can run at a time.", [({"worker": worker}, slots)])
        figures = stats.get("figures")
        if not figures:  # of a release that has none
            continue
        page.add("celeriac_worker_tasks", GAUGE, "Tasks that run.", [({"worker": worker}, figures["active"])])
        for task, of_task in figures["tasks"].items():
            labels = {"worker": worker, "task": task}
            states = [({**labels, "state": state}, count) for state, count in of_task["ended"].items()]
            page.add("celeriac_tasks_total", COUNTER, ends, states)
            page.add_histogram("celeriac_task_run_seconds", "How long tasks ran.", labels, **of_task["runs"])
            page.add_histogram(
                "celeriac_task_wait_seconds", "How long tasks waited until they started.", labels, **of_task["waits"]
            )


def _add_database(page: Page, found: dict[str, Any], broker: dict[str, Any]) -> None:
    if not found:
        return
    for name, about in (
        ("not_noted", "Publications whose row could not be written to the journal."),
        ("not_marked", "Starts and ends that no row of the journal could take."),
    ):
        page.add(f"celeriac_journal_{name}_total", COUNTER, about, [({}, found[name])])
    for name, about in (
        ("open", "Tasks that have not ended."),
        ("doubled", "Starts of one publication over the first, of those that are kept."),
        ("never_ended", "Tasks that should have ended by their time limits."),
    ):
        page.add(f"celeriac_journal_{name}_tasks", GAUGE, about, [({}, found[name])])
    late = "Entries of the schedule that are due, and were not sent."
    page.add("celeriac_beat_late_entries", GAUGE, late, [({}, len(found["beat_is_late"]))])
    # A queue that was emptied by hand leaves rows that nobody starts.
    queues = broker.get("queues", {})
    ages = [({"queue": name}, age if queues.get(name, 1) else 0) for name, age in found["oldest"].items()]
    page.add("celeriac_queue_oldest_seconds", GAUGE, "For how long the oldest task that is due has waited.", ages)
