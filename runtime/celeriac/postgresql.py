"""A session of the database beside those that Django keeps, and how PostgreSQL treats it."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, router
from django.db.models import Model

# So long PostgreSQL keeps a transaction, and its locks, of a process that does not go on with it.
IDLE_SECONDS = 5


def begin_with(options: dict[str, Any], **settings: str) -> None:
    """Let sessions begin with settings of the server's, and out of no pool.

    A pool would hand out sessions that began with others.

    Args:
        options: those of a connection, its ``OPTIONS``; they are changed in place.
        settings: of PostgreSQL, by their names.
    """
    options.pop("pool", None)
    own = " ".join(f"-c {name}={value}" for name, value in settings.items())
    options["options"] = f"{options.get('options', '')} {own}".strip()


def own_session(alias: str, *, client: dict[str, Any] | None = None, **settings: str) -> Any:
    """Return a connection of Django's, not yet open, that nobody else uses.

    It has all that the project set for its own, but for a pool, and commits by itself.

    Args:
        alias: of the database, as in ``DATABASES``.
        client: other ``OPTIONS``.
        settings: of the server's, where that is PostgreSQL.
    """
    shared: Any = connections[alias]
    own = copy.deepcopy(shared.settings_dict)
    own["AUTOCOMMIT"] = True
    options = own.setdefault("OPTIONS", {})
    options.pop("pool", None)
    options.update(client or {})
    if settings and shared.vendor == "postgresql":
        begin_with(options, **settings)
    return type(shared)(own, alias)


@contextmanager
def private_connection(model: type[Model]) -> Iterator[None]:
    """Give this thread a connection of its own for a model, beside a worker's event loop.

    The worker forks the processes of its pool; a pool of connections they would share. On
    PostgreSQL nothing waits for the disk: what the server forgets in a crash of its own is as if
    the worker had been killed a moment earlier.
    https://www.postgresql.org/docs/current/wal-async-commit.html

    Nor does a worker that is frozen in the middle of a transaction keep the others from theirs for
    longer than `IDLE_SECONDS`: the server ends its session, and when it goes on it tries again.

    Args:
        model: whose database it is.
    """
    alias = router.db_for_write(model)
    shared = connections[alias]
    connections[alias] = own_session(
        alias,
        synchronous_commit="off",
        idle_in_transaction_session_timeout=f"{IDLE_SECONDS}s",
    )
    try:
        yield
    finally:
        connections[alias].close()
        connections[alias] = shared
