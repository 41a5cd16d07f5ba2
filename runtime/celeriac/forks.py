"""A fork waits for the end of what other threads do.

A forked process has one thread, and every lock as it was: what another thread held at that moment
stays locked in there for good, SQLite's allocator like any lock of Python. Celery's pool forks when
it starts, and whenever it replaces one of its processes. So what a thread beside the event loop
does, it does in turns, and between two of them it can be forked.
(https://pubs.opengroup.org/onlinepubs/9699919799/functions/fork.html, rationale)

A fork waits for `PATIENCE_SECONDS` at most, and for each turn once. A turn that takes longer waits
for a server, and then has no lock that others need; the event loop, which forks, must not wait too.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_SECONDS = 1.0


class _Gate:
    """The threads that are in a turn, and how many forks wait for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working: set[int] = set()
        self._slow: set[int] = set()
        self._forks = 0

    def enter(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._forks)
            self._working.add(threading.get_ident())

    def leave(self) -> None:
        with self._changed:
            self._working.discard(threading.get_ident())
            self._slow.discard(threading.get_ident())
            self._changed.notify_all()

    def is_mine(self) -> bool:
        return threading.get_ident() in self._working

    def before_fork(self) -> None:
        self._changed.acquire()  # until after the fork
        self._forks += 1
        others = self._working - {threading.get_ident()}
        self._changed.wait_for(lambda: not others & self._working - self._slow, PATIENCE_SECONDS)
        self._slow |= others & self._working

    def after_fork(self) -> None:
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()


_gate = _Gate()


def _in_child() -> None:
    global _gate
    _gate = _Gate()  # the other threads are not here


os.register_at_fork(
    before=lambda: _gate.before_fork(),
    after_in_parent=lambda: _gate.after_fork(),
    after_in_child=_in_child,
)


@contextmanager
def turn() -> Iterator[None]:
    """Let no fork happen within; begin after one that is about to.

    Turns of several threads go on at once. They are not nested.
    """
    gate = _gate
    gate.enter()
    try:
        yield
    finally:
        gate.leave()


def rest() -> None:
    """Let a fork go before, in the middle of a long turn; outside of one, do nothing."""
    if _gate.is_mine():
        _gate.leave()
        _gate.enter()
