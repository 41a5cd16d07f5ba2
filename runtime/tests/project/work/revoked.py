"""What the project itself knows of revoked tasks."""

from celery import current_app
from celery.utils import uuid

from celeriac.ledger.models import Dispatch
from work.tasks import sleep


def those_of_the_project(task_ids: set[str]) -> set[str]:
    """Return those whose arguments say that they are revoked."""
    rows = Dispatch.objects.filter(task_id__in=task_ids, args__contains="revoked in the project")
    return {*rows.values_list("task_id", flat=True)}


def send_and_revoke(name: str) -> str:
    """Revoke a task and send it then; return its id."""
    task_id = uuid()
    current_app.control.revoke(task_id)
    sleep.apply_async((name, 0), task_id=task_id, queue="paused", ignore_result=True)
    return task_id
