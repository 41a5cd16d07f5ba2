"""A forked process finds no lock locked by a thread that it does not have."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery import Celery
from ledgers import ended, running
from testkit.redis import Redis
from testkit.waiting import comes_true
from workers import worker

from celeriac import forks
from celeriac.worker.background import BrokerThread


def fork(in_child: Callable[[], bool]) -> tuple[bool, float]:
    """Fork; return what the child finds, and how many seconds the fork took."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        result = False
        try:
            result = in_child()
        finally:
            os._exit(0 if result else 1)
    took = time.monotonic() - began
    _, status = os.waitpid(child, 0)
    return status == 0, took


# So long that no slow computer takes it for a fork that need not wait.
LONG = 60


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a fork wait very long for a turn."""
    monkeypatch.setattr(forks, "PATIENCE_SECONDS", LONG)


class Work:
    """Holds a lock for a while, as a thread does within a library.

    Args:
        seconds: how long.

    Attributes:
        over: ends it before that.
    """

    def __init__(self, seconds: float) -> None:
        self.began = threading.Event()
        self.over = threading.Event()
        self.lock = threading.Lock()
        self._seconds = seconds

    def __call__(self, *_: object) -> None:
        """Do it, whatever is handed over."""
        with self.lock:
            self.began.set()
            self.over.wait(self._seconds)

    def is_free(self) -> bool:
        """Return whether the lock can be had."""
        return self.lock.acquire(blocking=False)


@contextmanager
def beside(target: Callable[[], None], work: Work) -> Iterator[None]:
    """Run a thread, from the beginning of the work to its end."""
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    assert work.began.wait(60)
    yield
    thread.join(60)
    assert not thread.is_alive()


def in_turn(work: Work) -> Callable[[], None]:
    """Return what does the work in one turn."""

    def run() -> None:
        with forks.turn():
            work()

    return run


def test_a_fork_waits_for_the_end_of_a_turn(patient: None) -> None:
    """Turns of two threads at once, and the next fork finds nobody to wait for."""
    works = [Work(0.3), Work(0.5)]
    with beside(in_turn(works[0]), works[0]), beside(in_turn(works[1]), works[1]):
        free, _ = fork(lambda: all(work.is_free() for work in works))
        assert free
        _, took = fork(lambda: True)
        assert took < LONG


def test_a_fork_goes_before_at_a_rest(patient: None) -> None:
    """In the middle of a turn that goes on and on, and takes the lock again at once."""
    work = Work(0.1)
    ended = threading.Event()

    def long() -> None:
        with forks.turn():
            while not ended.is_set():
                work()
                forks.rest()

    with beside(long, work):
        for _ in range(5):
            free, took = fork(work.is_free)
            assert free
            assert took < LONG
        ended.set()


def test_no_turn_begins_while_a_fork_waits(patient: None) -> None:
    works = [Work(LONG), Work(LONG)]

    def second() -> None:
        assert comes_true(lambda: forks._gate._forks == 1)
        threading.Timer(0.3, works[0].over.set).start()  # the fork waits until then
        with forks.turn():
            works[1]()  # as it would in the child, had it begun before the fork

    later = threading.Thread(target=second)
    with beside(in_turn(works[0]), works[0]):
        later.start()
        free, _ = fork(lambda: all(work.is_free() for work in works))
        assert free
    assert works[1].began.wait(60)
    works[1].over.set()
    later.join(60)


def test_a_fork_waits_once_for_a_turn_that_hangs_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with a database that does not answer; else each new process of a pool would wait."""
    work = Work(3 * LONG)
    with beside(in_turn(work), work):
        _, first = fork(lambda: True)
        assert forks.PATIENCE_SECONDS * 0.9 < first < LONG
        monkeypatch.setattr(forks, "PATIENCE_SECONDS", LONG)
        _, second = fork(lambda: True)
        assert second < LONG
        work.over.set()
    after = Work(0.3)
    with beside(in_turn(after), after):
        free, _ = fork(after.is_free)
        assert free


def test_a_child_can_begin_turns_and_fork(patient: None) -> None:
    """Also one that was forked from within a turn, by the thread whose turn it is."""

    def child() -> bool:
        with forks.turn():
            free, took = fork(lambda: True)
        return free and took < LONG

    work = Work(0.3)
    with beside(in_turn(work), work):
        assert fork(child)[0]
    with forks.turn():
        assert fork(lambda: fork(lambda: True)[0])[0]
    assert fork(child)[0]


def test_what_is_done_aside_is_done_in_turns() -> None:
    """Connecting, working, and closing after a failure."""
    stages = {name: Work(0.2) for name in ("connect", "work", "close")}

    def connect(**_: object) -> Any:
        stages["connect"]()
        return SimpleNamespace(
            transport=SimpleNamespace(driver_type="memory"),
            transport_options=None,
            connection_errors=(OSError,),
            release=stages["close"],
        )

    def work(*_: object) -> None:
        stages["work"]()
        raise OSError

    app = cast(Celery, SimpleNamespace(connection_for_write=connect))
    thread = BrokerThread(app, "test", 0.1, work)
    thread.start()
    for work_of in stages.values():
        assert work_of.began.wait(60)
        assert fork(work_of.is_free)[0]
    thread.stop()
    thread.join(60)


def test_pool_process_inherits_nothing_of_the_journal(ledger_environment: dict[str, str], redis: Redis) -> None:
    """Each of twenty is forked while both of its threads work nearly all the time."""
    slow = ("--include=work.inheritance", "--max-tasks-per-child=1")
    with running(ledger_environment) as project, worker(ledger_environment, *slow) as only:
        only.told("READY=1")
        project.send_many([()] * 20, task="work.inheritance.inherited")
        only.waits(lambda: len(ended(ledger_environment)) == 20, "all of them")
    assert ended(ledger_environment) == ["nothing"] * 20
