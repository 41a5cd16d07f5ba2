"""The site's tasks: thin, so that the work itself can be called and tested without Celery.

A task is delivered at least once. One that is not safe to run twice says so.
Each is registered under its module path, which is also how the schedule names it. What takes seconds has limits of
its own, and does not hold a process for the half hour that the settings allow; what grows with the tables has theirs.
"""

import logging
import time
from datetime import timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from billiard.exceptions import SoftTimeLimitExceeded
from celeriac import clock
from celery import Task, shared_task
from django.core.management import call_command
from django.utils import timezone

from app import mail, reports
from app.callbacks import LoggedTask
from app.models import Post

logger = logging.getLogger(__name__)

ADD_SECONDS = 5


@shared_task(name="app.tasks.add", soft_time_limit=30, time_limit=60)
def add(x: int | float, y: int | float) -> int | float:
    """Return the sum of two numbers, after five seconds that stand for slow work."""
    time.sleep(ADD_SECONDS)
    total = x + y
    logger.info("%s + %s = %s", x, y, total)
    return total


@shared_task(name="app.tasks.post_counter_update", soft_time_limit=30, time_limit=60)
def post_counter_update(pk: int = 1) -> int:
    """Add one view to a post; return how many were changed. Executed twice, it counts twice: a counter can bear it."""
    updated = Post.objects.filter(pk=pk).count_view()
    if updated:
        logger.info("Post %s was viewed once more", pk)
    else:
        logger.warning("Post %s does not exist, no view was counted", pk)
    return updated


@shared_task(name="app.tasks.send_emails", bind=True, soft_time_limit=30, time_limit=60)
def send_emails(
    self: "Task[Any, Any]", addresses: list[str], subject: str = mail.SUBJECT, text: str = mail.TEXT
) -> int:
    """Send an e-mail to each address, as a task of its own; return how many.

    So one that fails stops no other, and is tried again alone. Run twice, it sends the same e-mails under the same
    ids: a mail program shows them once.
    """
    for address in addresses:
        run_id = str(uuid5(NAMESPACE_URL, f"{self.request.id}/{address}"))
        send_email.apply_async((address, subject, text), task_id=run_id)
    return len(addresses)


@shared_task(
    name="app.tasks.send_email",
    bind=True,
    base=LoggedTask,
    soft_time_limit=30,
    time_limit=60,
    # A mail server that is unavailable, and one that says "later" (4xx). The waits double, up to two minutes, and each
    # is cut at random, so that those who failed together do not come back together.
    autoretry_for=(OSError,),
    max_retries=6,
    retry_backoff=True,
    retry_backoff_max=120,
    retry_jitter=True,
)
def send_email(self: "Task[Any, Any]", address: str, subject: str, text: str) -> None:
    """Send one e-mail, and try again while the mail server does not take it.

    Not idempotent: a mail server cannot be asked whether it has one. Sent twice, it has the same Message-ID.
    """
    mail.send(address, subject, text, number=str(self.request.id))


@shared_task(name="app.tasks.daily_report")
def daily_report() -> str | None:
    """Keep the report of yesterday and send it; return its text, nothing if it was there already."""
    report = reports.keep(timezone.localdate(clock.now()) - timedelta(days=1))
    return report.text if report else None


@shared_task(name="app.tasks.clear_expired_sessions")
def clear_expired_sessions() -> None:
    """Delete the sessions of visitors whose time is over; Django itself never does."""
    call_command("clearsessions")


# What can happen to a task, each to be tried out.


@shared_task(name="app.tasks.simple_function", base=LoggedTask, soft_time_limit=30, time_limit=60)
def simple_function(text: str = "hello", fail: bool = False) -> str:
    """Return a text in capitals, or fail if that is wanted; either is written into the log afterwards."""
    if fail:
        raise ValueError(f"was asked to fail with {text!r}")
    return text.upper()


@shared_task(name="app.tasks.always_fails", soft_time_limit=30, time_limit=60)
def always_fails(text: str = "on purpose") -> None:
    """Fail: the state becomes FAILURE, and error and traceback are kept."""
    raise RuntimeError(text)


@shared_task(name="app.tasks.succeeds_later", bind=True, max_retries=None, soft_time_limit=30, time_limit=60)
def succeeds_later(self: "Task[Any, Any]", failures: int = 2, seconds: float = 1) -> int:
    """Fail so many times (RETRY), wait so many seconds after each, then return how many attempts it took."""
    if self.request.retries < failures:
        raise self.retry(exc=RuntimeError(f"attempt {self.request.retries + 1} failed"), countdown=seconds)
    return self.request.retries + 1


@shared_task(name="app.tasks.exceeds_soft_limit", soft_time_limit=1, time_limit=10)
def exceeds_soft_limit(seconds: float = 5) -> None:
    """Take longer than the soft limit of one second: an exception inside the task, which can tidy up."""
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        logger.warning("Tidied up, in the time that is left")
        raise


@shared_task(name="app.tasks.exceeds_time_limit", soft_time_limit=1, time_limit=2)
def exceeds_time_limit(seconds: float = 5) -> None:
    """Do not mind the soft limit, and take longer than the hard one of two seconds: the process is ended."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            time.sleep(left)
        except SoftTimeLimitExceeded:
            logger.warning("The soft time limit is over, this goes on")
