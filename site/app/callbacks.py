"""What a worker does when a task has ended, well or badly.

The methods have the names and arguments with which Celery calls them. It calls them in the worker, after the result
was stored; what they return is ignored. A retry is neither.
"""

import logging
from typing import Any

from celery.contrib.django.task import DjangoTask

logger = logging.getLogger(__name__)


class LoggedTask(DjangoTask):  # type: ignore[type-arg]  # takes none when it runs
    """A task that writes its end into the log: `@shared_task(base=LoggedTask)`.

    Source: https://docs.celeryq.dev/en/stable/userguide/tasks.html#handlers, which says what the arguments are.
    """

    abstract = True

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Log what was returned."""
        logger.info("Task %s[%s] succeeded: %r", self.name, task_id, retval)

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Log why it failed; the traceback is the text of `einfo`."""
        logger.error("Task %s[%s] failed: %s: %s", self.name, task_id, type(exc).__name__, exc)
