"""A connection to the database for a thread beside a worker's event loop."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, router
from django.db.models import Model

# So long PostgreSQL keeps a transaction, and its locks, of a process that does not go on with it.
IDLE_SECONDS = 5


@contextmanager
def private_connection(model: type[Model]) -> Iterator[None]:
    """Give this thread a connection of its own for a model, out of no pool.

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
    shared: Any = connections[alias]
    settings = copy.deepcopy(shared.settings_dict)
    options = settings.setdefault("OPTIONS", {})
    options.pop("pool", None)
    if shared.vendor == "postgresql":
        own = f"-c synchronous_commit=off -c idle_in_transaction_session_timeout={IDLE_SECONDS}s"
        options["options"] = f"{options.get('options', '')} {own}".strip()
    connections[alias] = type(shared)(settings, alias)
    try:
        yield
    finally:
        connections[alias].close()
        connections[alias] = shared
