"""Is what the site stands on there? Asked for real, and answered within a bound (`celeriac.probe`)."""

import logging
from concurrent.futures import wait

from celeriac.broker import memory
from celeriac.probe import ANSWER_SECONDS, Probe
from celery import current_app
from django.db import connection

logger = logging.getLogger(__name__)


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
