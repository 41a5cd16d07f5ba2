"""The site's tasks: thin, so that the work itself can be called and tested without Celery.

A task is delivered at least once. One that is not safe to run twice says so.
Each is registered under its module path, which is also how the schedule names it.
"""

import logging
import time

from celery import shared_task

from app.models import Post

logger = logging.getLogger(__name__)

ADD_SECONDS = 5


@shared_task(name="app.tasks.add")
def add(x: int | float, y: int | float) -> int | float:
    """Return the sum of two numbers, after five seconds that stand for slow work."""
    time.sleep(ADD_SECONDS)
    total = x + y
    logger.info("%s + %s = %s", x, y, total)
    return total


@shared_task(name="app.tasks.post_counter_update")
def post_counter_update(pk: int = 1) -> int:
    """Add one view to a post; return the number of posts changed, 0 when there is no such post.

    Not idempotent: delivered twice, it counts twice, which a view counter can bear.
    """
    updated = Post.objects.filter(pk=pk).count_view()
    if updated:
        logger.info("Post %s was viewed once more", pk)
    else:
        logger.warning("Post %s does not exist, no view was counted", pk)
    return updated
