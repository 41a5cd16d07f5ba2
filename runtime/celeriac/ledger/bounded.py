"""Writes to the database for a caller that must not wait for it.

A database may hang: its host is frozen, or somebody holds a lock on the table. What holds then:

* Outside of a transaction a caller waits for `WAIT_SECONDS` at most, whatever it is that hangs, and
  whichever database. A thread writes over the caller's own connection, and where it does not come
  back in time it keeps that connection, to close it one day, and the caller has a new one. What was
  under way may still be written then, late.
* In a transaction the caller's connection is the only one on which a row can be part of it. On
  PostgreSQL a lock is waited for as long, and the savepoint before the row keeps the transaction
  usable. A server that does not answer at all holds up the transaction with or without a journal.
* After a write that took so long in vain the process does not try for `PAUSE_SECONDS`, nor before
  the thread has come back: a thousand publications do not wait a second each. A database that
  refuses at once is tried each time.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from django.db import connections, transaction

WAIT_SECONDS = 1.0
PAUSE_SECONDS = 5.0


class UnavailableError(Exception):
    """The database does not answer, or did not a moment ago."""


_hanging: list["_Attempt"] = []
_paused_until = 0.0  # time.monotonic()


def is_in_transaction(connection: Any) -> bool:
    """Return whether what a connection writes is part of something that its owner has begun."""
    begun = connection.connection is not None and not connection.autocommit
    return bool(connection.in_atomic_block or begun)


def write(alias: str, work: Callable[[], object]) -> None:
    """Do something with this thread's connection to a database, for so long at most.

    Args:
        alias: of the database.
        work: uses ``connections[alias]``, in this thread or in another one.

    Raises:
        UnavailableError: it was not tried, or has not come to an end.
        Exception: what the work has raised.
    """
    global _paused_until
    _hanging[:] = [attempt for attempt in _hanging if attempt.is_alive()]
    if _hanging or time.monotonic() < _paused_until:
        raise UnavailableError("the database did not answer a moment ago")
    began = time.monotonic()
    try:
        if is_in_transaction(connections[alias]):
            # A savepoint: a failure here must not spoil what the caller does next.
            with transaction.atomic(using=alias):
                work()
        else:
            _in_thread(alias, work)
    except Exception:
        if time.monotonic() - began > WAIT_SECONDS / 2:
            _paused_until = time.monotonic() + PAUSE_SECONDS
        raise


def _in_thread(alias: str, work: Callable[[], object]) -> None:
    connection: Any = connections[alias]
    connection.inc_thread_sharing()
    attempt = _Attempt(alias, connection, work)
    try:
        attempt.start()
        attempt.join(WAIT_SECONDS)
    finally:  # also where a signal ends the wait, such as that of a soft time limit
        left = attempt.leave()
        if left:
            del connections[alias]
            _hanging.append(attempt)
        else:
            connection.dec_thread_sharing()
    if left:
        raise UnavailableError(f"the database did not answer within {WAIT_SECONDS:g} s")
    if attempt.error is not None:
        raise attempt.error


class _Attempt(threading.Thread):
    """Works with the connection of another thread, which waits for it, and then may not any more.

    Attributes:
        error: what the work has raised.
    """

    def __init__(self, alias: str, connection: Any, work: Callable[[], object]) -> None:
        super().__init__(name="celeriac-ledger-write", daemon=True)
        self._alias, self._connection, self._work = alias, connection, work
        self._lock = threading.Lock()
        self._over = self._left = False
        self.error: Exception | None = None

    def run(self) -> None:
        """Work; a connection that nobody waits for any more is closed."""
        connections[self._alias] = self._connection
        try:
            self._work()
        except Exception as error:
            self.error = error
        with self._lock:
            self._over = True
        if self._left:
            self._connection.close()

    def leave(self) -> bool:
        """Wait no longer; return whether the connection is still at work, and is this thread's."""
        with self._lock:
            self._left = not self._over
            return self._left
