"""What a worker notes of one task: Celery's own request, with a pen.

All of it happens in the worker's main process, whose event loop carries every task: what is heard
is put on a list, and `celeriac.ledger.marks` brings it to the database. Only a task that may have
been started before is asked after, and waits for the answer. (celery/worker/request.py, 5.7)
"""

import logging
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from celery.exceptions import TaskRevokedError
from celery.utils.imports import symbol_by_name
from celery.worker.state import task_ready

from celeriac.ledger import receipts
from celeriac.ledger.marks import Ledger, Standing
from celeriac.ledger.publishing import NOTED
from celeriac.ledger.rule import Receipt

# The sweep has sent it, and how often before.
RESENT = "celeriac-resent"

_log = logging.getLogger(__name__)


def install(tasks: dict[str, Any], ledger: Ledger) -> None:
    """Let the requests of these tasks be noted, whatever class they are of.

    Args:
        tasks: those of the worker's app, before the consumer starts.
        ledger: where to.
    """
    noting = cache(lambda base: _noting(base, ledger))
    for task in tasks.values():
        task.Request = noting(symbol_by_name(task.Request))


def _noting(base: Any, ledger: Ledger) -> Any:
    class Noting(base):  # Celery's class, or one of the project's own
        _ended = False

        def __init_subclass__(cls) -> None:
            """Wrap what Celery defines anew in the class that it makes for each task, for speed."""
            super().__init_subclass__()
            for name, wrap in (("execute_using_pool", _asking), ("on_success", _ending)):
                if name in cls.__dict__:
                    setattr(cls, name, wrap(cls.__dict__[name]))

        @property
        def noted(self) -> bool:
            return NOTED in self._request_dict

        @property
        def retries(self) -> int:
            return self._request_dict.get("retries") or 0

        def on_accepted(self, pid: int, time_accepted: float) -> None:
            super().on_accepted(pid, time_accepted)
            if self.noted:
                limit = self.time_limits[0] or self.task.time_limit
                ledger.started(self.id, self.retries, limit, acked=not self.task.acks_late)

        def acknowledge(self) -> None:
            # What is acknowledged late, or before it has started (revoked, say), is over by now.
            over = bool(self.task.acks_late) or self.time_start is None
            if self.noted and not self.acknowledged:
                kind = Receipt.ENDED if over else Receipt.STARTED
                receipts.leave(self.message, self.id, self.retries, kind)
            super().acknowledge()
            if over:
                self.end()

        def reject(self, requeue: bool = False) -> None:
            done = self.acknowledged
            if self.noted and not requeue and not done:
                receipts.leave(self.message, self.id, self.retries, Receipt.ENDED)
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
            if self.noted and not self._ended:
                self._ended = True
                ledger.ended(self.id, self.retries)

        def was_ended(self) -> bool:
            """Say whether this start is to be dropped; count it if it is a second one."""
            info, message = self.delivery_info or {}, self._request_dict
            again = bool(info.get("redelivered")) or RESENT in message
            if not self.noted or not ledger.is_suspicious(self.id, again=again):
                return False
            standing = ledger.ask(self.id, self.retries)
            if standing is Standing.ENDED:
                _log.warning("Task %s[%s] has ended before: dropped", self.name, self.id)
                ledger.count("dropped")
            elif standing is Standing.STARTED:
                _log.warning("Task %s[%s] was started before: it runs again", self.name, self.id)
                ledger.count("started_again")
            return standing is Standing.ENDED

    return Noting


def _asking(execute: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(execute)
    def execute_using_pool(request: Any, pool: Any, **options: Any) -> Any:
        if request.was_ended():
            request.acknowledge()
            task_ready(request)
            raise TaskRevokedError(request.id)  # the word for "not to be executed"
        return execute(request, pool, **options)

    return execute_using_pool


def _ending(succeed: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(succeed)
    def on_success(request: Any, *arguments: Any, **options: Any) -> Any:
        result = succeed(request, *arguments, **options)
        request.end_of_early()
        return result

    return on_success
