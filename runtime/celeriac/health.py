"""Whether what the project stands on is there. Asked for real, and answered within a bound (`celeriac.probe`).

path("health/", health.view)                                    # in urls.py
"""

import logging
from concurrent.futures import wait

from celery import current_app
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from celeriac.broker import memory
from celeriac.probe import ANSWER_SECONDS, Probe

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


@require_safe
@never_cache
def view(request: HttpRequest) -> JsonResponse:
    """Say whether the database and the broker answer: 200, or 503 when one does not.

    A full broker is no 503: pages are there, workers make room, and a release that is switched in must not fail for it.
    """
    answers = report()
    return JsonResponse(answers, status=503 if "unavailable" in answers.values() else 200)


def report() -> dict[str, str]:
    """Return "ok" or "unavailable" for the database and the broker, or "full", in about two seconds at most.

    Why something is unavailable is in the log, not in the answer: the address is open to everybody.
    """
    questions = {name: probe.start() for name, probe in _PROBES.items()}
    answered, late = wait(questions.values(), timeout=ANSWER_SECONDS)
    for name, question in questions.items():
        if question in late:
            logger.warning("%s is unavailable: no answer in %s seconds", name, ANSWER_SECONDS)
    return {
        name: question.result() if question in answered and question.exception() is None else "unavailable"
        for name, question in questions.items()
    }
