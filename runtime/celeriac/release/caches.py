"""A check of the project: the Redis of the queue is none of its caches.

What is cached there takes room from the queue, which lets nothing go to make some. And
``cache.clear()`` is ``FLUSHDB``: the site's account may not run it, for in database 0 it would take
every task that waits.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from django.conf import settings
from django.core import checks

# Names of this computer, each of which may be the broker's.
_HERE = {"localhost", "127.0.0.1", "::1"}
_REDIS = {"redis", "rediss"}


def register(app: Celery) -> None:
    """Have Django's ``check`` look at the caches, too.

    Args:
        app: whose broker is none.
    """

    def queue_is_no_cache(**_: Any) -> list[checks.CheckMessage]:
        return [*_misplaced(app)]

    checks.register(queue_is_no_cache, checks.Tags.caches)


def _misplaced(app: Celery) -> Iterator[checks.CheckMessage]:
    broker = _server(app.conf.broker_url or "")
    for name, cache in settings.CACHES.items():
        location = cache.get("LOCATION") or ""
        places = location.replace(";", ",").split(",") if isinstance(location, str) else location
        if broker and broker in map(_server, places):
            yield checks.Warning(
                f"CACHES[{name!r}] is at {broker[0]}:{broker[1]}, the Redis of the queue: what is "
                "cached takes room from the tasks, and cache.clear() is refused there.",
                hint='Cache in the database ("BACKEND": '
                '"django.core.cache.backends.db.DatabaseCache", and `manage.py createcachetable`)'
                " or in another Redis.",
                id="celeriac.W001",
            )


def _server(url: str) -> tuple[str, int] | None:
    """Return host and port of a Redis, None for anything else."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port or 6379
    except ValueError:  # a password that no address can have
        return None
    if parts.scheme not in _REDIS:
        return None
    host = parts.hostname or "localhost"
    return ("127.0.0.1" if host in _HERE else host), port
