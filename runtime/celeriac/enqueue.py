"""The one way in which a request sends a task to the workers."""

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Task
from celery.exceptions import OperationalError
from celery.result import AsyncResult, denied_join_result
from celery.utils import uuid

# A request gives up on a dead broker at once; waiting out its restart is for beat, which has time.
QUICK_RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}


class BrokerUnavailableError(Exception):
    """The task could not be handed to the broker; it was not started."""


def enqueue(task: "Task[Any, Any]", *args: Any, **kwargs: Any) -> "AsyncResult[Any]":
    """Send a task with these arguments, without waiting for its result; return its handle.

    Raises BrokerUnavailableError: at once when nothing listens there, after the socket timeout of the
    settings when the broker is frozen.
    """
    return send(task, args, kwargs)


def send(task: "Task[Any, Any]", args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any) -> "AsyncResult[Any]":
    """Do the same with options of `apply_async`, such as priority and countdown.

    Raises BrokerUnavailableError: as `enqueue` does.
    """
    run_id = uuid()
    # Nobody waits here, so nobody subscribes: with results in Redis that would be a round trip for
    # each task, and twenty seconds of trying when it is away.
    with denied_join_result():
        try:
            return task.apply_async(
                args=tuple(args), kwargs=dict(kwargs), task_id=run_id, retry_policy=QUICK_RETRY, **options
            )
        except OperationalError as error:
            raise BrokerUnavailableError(str(error)) from error
