"""What the tasks write down."""

from __future__ import annotations

import os

from django.db import models
from django.utils.timezone import now


class Run(models.Model):
    """One execution of a task; one that was executed twice has two.

    Attributes:
        task: its id.
        name: what the test calls it.
        release: of the worker that executed it.
        marker: what a module said that was imported at the end of the task, or when the task would have expired.
        at: when it ended.
    """

    task = models.CharField(max_length=64, db_index=True)
    name = models.CharField(max_length=64, db_index=True)
    release = models.CharField(max_length=64)
    marker = models.CharField(max_length=64)
    at = models.DateTimeField(default=now)


def note(task: str, name: str, marker: str = "") -> None:
    """Write down that a task was executed."""
    Run.objects.create(task=task, name=name, release=os.environ["CELERIAC_RELEASE"], marker=marker)
