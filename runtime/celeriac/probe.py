"""A question that may hang, answered within a bound.

Neither a socket's timeout nor a database's covers every way to hang (a name that does not resolve,
a frozen server on a local socket). So it is asked in a thread of its own, and the caller waits for
it only so long.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 2.0

Answer = TypeVar("Answer")


class Probe(Generic[Answer]):
    """A question that may hang. While one is open, others who ask wait for its answer."""

    def __init__(self, name: str, ask: Callable[[], Answer]) -> None:
        """Take the name of what is asked, and a function that raises when it is unavailable."""
        self._name = name
        self._ask = ask
        self._lock = threading.Lock()
        self._open: Future[Answer] | None = None

    def answer(self) -> Answer | None:
        """Return the answer, None when it is unavailable or none comes in about two seconds."""
        question = self.start()
        wait([question], timeout=ANSWER_SECONDS)
        return question.result() if question.done() and question.exception() is None else None

    def start(self) -> Future[Answer]:
        """Return the open question, or ask now. At most one thread is ever stuck in it."""
        with self._lock:
            if self._open is None or self._open.done():
                self._open = Future()
                # A daemon, or a stuck one would keep the process from ending.
                threading.Thread(target=self._run, args=(self._open,), name=f"health-{self._name}", daemon=True).start()
            return self._open

    def _run(self, future: Future[Answer]) -> None:
        try:
            answer = self._ask()
        except Exception as error:  # whatever is raised, it means "unavailable"
            reason = " ".join(str(error).split())  # one line in the log, also for PostgreSQL's two
            logger.warning("%s is unavailable: %s: %s", self._name, type(error).__name__, reason)
            future.set_exception(error)
        else:
            future.set_result(answer)
