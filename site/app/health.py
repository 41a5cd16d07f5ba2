"""Is what the site stands on there? Asked for real, and answered within a bound.

Neither a socket's timeout nor a database's covers every way to hang (a name that does not resolve,
a frozen server on a local socket). So each question is asked in a thread of its own, and the caller
waits for it only so long.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

from celeriac.broker import memory
from celery import current_app
from django.db import connection

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 2.0

Answer = TypeVar("Answer")


class Probe(Generic[Answer]):
    """A question that may hang. While one is open, others who ask wait for its answer."""

    def __init__(self, name: str, ask: Callable[[], Answer]) -> None:
        """Take the name of what is asked, and a function that raises when it is away."""
        self._name = name
        self._ask = ask
        self._lock = threading.Lock()
        self._open: Future[Answer] | None = None

    def answer(self) -> Answer | None:
        """Return the answer, None when it is away or none comes in about two seconds."""
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
        except Exception as error:  # whatever is raised, it means "away"
            reason = " ".join(str(error).split())  # one line in the log, also for PostgreSQL's two
            logger.warning("%s is away: %s: %s", self._name, type(error).__name__, reason)
            future.set_exception(error)
        else:
            future.set_result(answer)


def _ask_database() -> str:
    """Run a query over a new connection: a kept one says nothing about those to come."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return "ok"
    finally:
        connection.close()  # connections are per thread, and this thread ends here


def _ask_broker() -> str:
    """Connect to the broker anew (Redis answers a PING, RabbitMQ a log-in); try twice at once.

    A Redis that is full refuses those who send, and hears workers, who empty it.
    """
    timeouts = {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}
    known = current_app.conf.broker_transport_options  # RabbitMQ's client knows neither of the two
    with current_app.connection_for_write(
        connect_timeout=ANSWER_SECONDS,
        transport_options={name: value for name, value in timeouts.items() if name in known},
    ) as broker:
        broker.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        return "full" if (memory(broker) or 0) >= 1 else "ok"


_PROBES = {
    "database": Probe("database", _ask_database),
    "broker": Probe("broker", _ask_broker),
}


def report() -> dict[str, str]:
    """Return "ok" or "away" for the database and the broker, or "full", in about two seconds at most.

    Why something is away is in the log, not in the answer: the address is open to everybody.
    """
    questions = {name: probe.start() for name, probe in _PROBES.items()}
    answered, late = wait(questions.values(), timeout=ANSWER_SECONDS)
    for name, question in questions.items():
        if question in late:
            logger.warning("%s is away: no answer in %s seconds", name, ANSWER_SECONDS)
    return {
        name: question.result() if question in answered and question.exception() is None else "away"
        for name, question in questions.items()
    }
