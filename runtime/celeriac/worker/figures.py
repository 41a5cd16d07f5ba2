"""What a worker counts of its tasks for metrics: how they ended, how long they ran, and how long they waited.

All of it is in the memory of the worker's main process, whose event loop hears of every task; nothing is written. It
begins anew with each worker, and each has a name of its own, as a counter of Prometheus may. Whoever asks for the
worker's figures (``celery inspect stats``) finds it there: `celeriac.web.metrics`.

How long a task waited is known by a header (`celeriac.figures`); one with a time to come waits from then on.
(celery/worker/request.py, 5.7)
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial, wraps
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import WorkerLostError
from celery import signals, states
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.imports import symbol_by_name
from celery.worker import state

from celeriac.extension import WorkerExtension
from celeriac.figures import SENT_AT, TaskFigures, is_wanted

# How a task ends for which its process did, beside Celery's states: it runs again, or is parked.
LOST = "LOST"

_STATES = {
    Retry: states.RETRY,
    Ignore: states.IGNORED,
    Reject: states.REJECTED,
    WorkerLostError: LOST,
    SystemExit: LOST,
}


class Figures(WorkerExtension):
    """Gives all tasks a request that counts, where somebody may ask for that; each time when all else is done."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._tasks: defaultdict[str, TaskFigures] = defaultdict(TaskFigures)

    def include_if(self, worker: Any) -> bool:
        """Return whether anything is counted."""
        return is_wanted()

    def start(self, worker: Any) -> None:
        """Begin."""
        request_class = cache(partial(_request_class, self._tasks))
        for task in worker.app.tasks.values():
            task.Request = request_class(symbol_by_name(task.Request))
        signals.task_revoked.connect(self._revoked)

    def info(self, worker: Any) -> dict[str, Any]:
        """Return what is added to the worker's figures."""
        tasks = {name: asdict(found) for name, found in self._tasks.copy().items()}
        return {"figures": {"active": len(state.active_requests), "tasks": tasks}}

    def _revoked(self, sender: Any, **_: Any) -> None:
        self._tasks[sender.name].count(states.REVOKED)


def _request_class(tasks: dict[str, TaskFigures], base: Any) -> Any:
    class CountedRequest(base):  # Celery's class, or one of the project's own
        _is_counted = False

        def __init_subclass__(cls) -> None:
            """Wrap what Celery defines anew in the class that it makes for each task, for speed."""
            super().__init_subclass__()
            if "on_success" in cls.__dict__:
                cls.on_success = _counting(tasks, cls.__dict__["on_success"])

        def on_accepted(self, pid: int, time_accepted: float) -> None:
            super().on_accepted(pid, time_accepted)
            sent_at = self.request_dict.get(SENT_AT)
            if isinstance(sent_at, int | float):
                since = max(sent_at, self.eta.timestamp()) if self.eta else sent_at
                tasks[self.name].waits.observe(max(self.time_start - since, 0.0))  # clocks of two hosts may differ

        def on_failure(self, exc_info: Any, *arguments: Any, **options: Any) -> Any:
            result = super().on_failure(exc_info, *arguments, **options)
            self.count(_state(exc_info.exception))
            return result

        def on_timeout(self, soft: bool, timeout: float) -> None:
            super().on_timeout(soft, timeout)
            if not soft and not state.should_terminate:
                self.count(states.FAILURE)

        def count(self, how: str) -> None:
            """Count its end, once: after its time limit its process ends, too, and after it was terminated."""
            if not self._is_counted and not self._already_revoked:
                self._is_counted = True
                tasks[self.name].count(how)

    CountedRequest.__name__ = "Request"
    return CountedRequest


def _counting(tasks: dict[str, TaskFigures], succeed: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(succeed)
    def on_success(request: Any, result: tuple[Any, Any, float | None], **options: Any) -> Any:
        done = succeed(request, result, **options)
        failed, _, seconds = result
        if not failed:  # else `on_failure` was called
            request.count(states.SUCCESS)
        if seconds is None and request.time_start:  # Celery does not say it of what failed
            seconds = max(time.time() - request.time_start, 0.0)
        if seconds is not None:
            tasks[request.name].runs.observe(seconds)
        return done

    return on_success


def _state(error: Any) -> str:
    """Return the word of Celery's for how a task ended, or ours."""
    error = error.exc if isinstance(error, ExceptionWithTraceback) else error
    for kind, word in _STATES.items():
        if isinstance(error, kind):
            return str(word)
    return str(states.FAILURE)
