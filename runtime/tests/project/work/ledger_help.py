"""What the tests of the journal have done inside the project."""

from datetime import timedelta
from itertools import count
from typing import Any

from celery import current_app
from django.db import connection, transaction
from django.db.utils import OperationalError
from django.forms import model_to_dict
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from celeriac.ledger import bounded, recorder
from celeriac.ledger.models import Dispatch
from celeriac.ledger.publishing import PUBLICATION
from celeriac.ledger.recorder import Recorder
from work.tasks import sleep


def make_entries(ran_seconds_ago: dict[str, float]) -> None:
    """Make entries of every minute; those whose name begins with "disabled" are."""
    every, _ = IntervalSchedule.objects.get_or_create(every=60, period="seconds")
    for name, ago in ran_seconds_ago.items():
        PeriodicTask.objects.create(
            name=name,
            task="celeriac.ping",
            interval=every,
            last_run_at=timezone.now() - timedelta(seconds=ago),
            enabled=not name.startswith("disabled"),
        )


def play(steps: list[tuple[str, Any]]) -> dict[str, dict[str, Any]]:
    """Do what happens to tasks, as processes that send and a worker do it; return the rows by id.

    Args:
        steps: each one of ``("publish", (task, id, retries, name))``, ``("start", n)`` and
            ``("end", n)`` of the publication with that number, and ``("flush", None)``.
    """
    Dispatch.objects.all().delete()
    worker = Recorder("the worker")
    sent: list[tuple[str, str]] = []
    for what, given in steps:
        if what == "publish":
            sent.append(_publish(*given))
        elif what == "start":
            worker.started(*sent[given], limit=60)
        elif what == "end":
            worker.ended(*sent[given])
        else:
            worker.flush()
    worker.flush()
    rows = {row.task_id: model_to_dict(row) for row in Dispatch.objects.all()}
    for row in rows.values():
        row["number"] = [publication for _, publication in sent].index(row["publication"])
    return rows


def flush_until_done(*task_ids: str) -> int:
    """Say that each task was started, with another time limit each; return how often it took."""
    worker = Recorder("the worker")
    for number, task_id in enumerate(task_ids):
        row = Dispatch.objects.get(task_id=task_id)
        worker.started(task_id, row.publication, limit=60 + number)
    for turn in count(1):
        try:
            worker.flush()
        except OperationalError:
            connection.close()
        else:
            return turn
    raise AssertionError


def keep_marks(number: int) -> int:
    """Hear of more than fit, where so many do; return how many are kept."""
    recorder.KEPT = number
    worker = Recorder("the worker")
    for _ in range(2 * number):
        worker.ended("it", "publication")
    return len(worker._pending)


def _publish(task: str, task_id: str, retries: int, name: str) -> tuple[str, str]:
    """Send a task, take it out of its queue again, and return its id and which publication it is.

    Its headers have those of the one before, as a retry's have.
    """
    publish: Any = current_app.tasks[f"work.tasks.{task}"].apply_async
    headers = {PUBLICATION: "of the one before"}
    publish((name, 0), task_id=task_id, retries=retries, headers=headers, ignore_result=True)
    with current_app.connection_for_read() as broker:
        message = current_app.amqp.queues["celery"](broker.default_channel).get(no_ack=True)
    return message.headers["id"], message.headers[PUBLICATION]


def send_in_transaction_with_bound(name: str, times: int) -> str:
    """Send a task within a transaction, whose own bound for a lock is ten minutes.

    Returns:
        What the bound is in the end.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '10min'")
        for _ in range(times):
            sleep.apply_async((name, 0), ignore_result=True)
        cursor.execute("SHOW lock_timeout")
        return str(cursor.fetchone()[0])


def send_in_own_session(name: str, bound: str) -> list[int]:
    """Send a task; return which session was the caller's before, and which is afterwards."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [bound])
    before = _session()
    sleep.apply_async((name, 0), ignore_result=True)
    return [before, _session()]


def pause_for(seconds: float) -> None:
    """Let the journal try again so soon after it has waited in vain."""
    bounded.PAUSE_SECONDS = seconds


def _session() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])
