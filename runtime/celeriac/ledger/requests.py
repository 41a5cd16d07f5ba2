"""What a worker records of one task, by Celery's own request.

All of it happens in the worker's main process, whose event loop carries every task: what is heard
is put on a list, and `celeriac.ledger.recorder` brings it to the database. (celery/worker/request.py,
5.7)
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from celery.utils.imports import symbol_by_name

from celeriac.ledger.publishing import PUBLICATION
from celeriac.ledger.recorder import Recorder


def install(tasks: dict[str, Any], recorder: Recorder) -> None:
    """Let the requests of these tasks be recorded, whatever class they are of.

    Args:
        tasks: those of the worker's app, before the consumer starts.
        recorder: of the worker.
    """
    request_class = cache(lambda base: _request_class(base, recorder))
    for task in tasks.values():
        task.Request = request_class(symbol_by_name(task.Request))


def _request_class(base: Any, recorder: Recorder) -> Any:
    class JournalRequest(base):  # Celery's class, or one of the project's own
        _ended = False

        def __init_subclass__(cls) -> None:
            """Wrap what Celery defines anew in the class that it makes for each task, for speed."""
            super().__init_subclass__()
            if "on_success" in cls.__dict__:
                cls.on_success = _ending(cls.__dict__["on_success"])

        @property
        def publication(self) -> str:
            """Which one it is, empty for one that is not in the journal."""
            return str(self.request_dict.get(PUBLICATION) or "")

        def on_accepted(self, pid: int, time_accepted: float) -> None:
            super().on_accepted(pid, time_accepted)
            if self.publication:
                limit = self.time_limits[0] or self.task.time_limit
                recorder.started(self.id, self.publication, limit)

        def acknowledge(self) -> None:
            super().acknowledge()
            # What is acknowledged late, or before it has started (revoked, say), is over by now.
            if self.task.acks_late or self.time_start is None:
                self.end()

        def reject(self, requeue: bool = False) -> None:
            done = self.acknowledged
            super().reject(requeue=requeue)
            if not requeue and not done:
                self.end()

        def on_failure(self, exc_info: Any, *arguments: Any, **options: Any) -> Any:
            result = super().on_failure(exc_info, *arguments, **options)
            self.end_of_early()
            return result

        def on_timeout(self, soft: bool, timeout: float) -> None:
            super().on_timeout(soft, timeout)
            if not soft:
                self.end_of_early()

        def end_of_early(self) -> None:
            """Note the end of what was acknowledged at its start.

            Of any other the acknowledgement tells: what gets none is executed again.
            """
            if not self.task.acks_late:
                self.end()

        def end(self) -> None:
            if self.publication and not self._ended:
                self._ended = True
                recorder.ended(self.id, self.publication)

    return JournalRequest


def _ending(succeed: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(succeed)
    def on_success(request: Any, *arguments: Any, **options: Any) -> Any:
        result = succeed(request, *arguments, **options)
        request.end_of_early()
        return result

    return on_success
