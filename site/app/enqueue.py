"""The one way in which a request sends a task to the workers."""

from typing import Any

from celery import Task
from celery.exceptions import OperationalError
from celery.result import AsyncResult, denied_join_result

# A request gives up on a dead broker at once; waiting out its restart is for beat, which has time.
QUICK_RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}


class BrokerAwayError(Exception):
    """The task could not be handed to the broker; it was not started."""


def enqueue(task: "Task[Any, Any]", *args: Any, **kwargs: Any) -> "AsyncResult[Any]":
    """Send a task with these arguments, without waiting for its result; return its handle.

    Raises BrokerAwayError: at once when nothing listens there, after the socket timeout of the
    settings when the broker is frozen.
    """
    # Nobody waits here, so nobody subscribes: with results in Redis that would be a round trip for
    # each task, and twenty seconds of trying when it is away.
    with denied_join_result():
        try:
            return task.apply_async(args=args, kwargs=kwargs, retry_policy=QUICK_RETRY)
        except OperationalError as error:
            raise BrokerAwayError(str(error)) from error
