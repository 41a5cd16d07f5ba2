"""The warm-up: a web process has done once what its requests do, before the first of them comes.

The first requests of a fresh process compile templates and import what is imported late, and the
first of each of its threads connects to the database, to a session that knows no table yet. While
a release is switched in, all processes are fresh at once, and get several requests at a time. So
each thread asks itself for some pages first. The release before serves meanwhile; at a boot,
requests wait in the socket.

gunicorn reads this module as its configuration (``--config=python:celeriac.web.warmup``).

=======================  ========================================================================
``CELERIAC_WARM_PATHS``  what to ask for, with spaces between: ``/ /news/``; nothing if not set
``CELERIAC_HEALTH_HOST`` under which name: ``www.example.org``
=======================  ========================================================================
"""

import asyncio
import os
import threading
import time
from typing import Any

from celery import Celery
from django.db import connections

from celeriac.project import ASGIApplication, is_asgi
from celeriac.web import overdue, request

# A socket that would stop and scale the workers, and that nobody here asks; new in gunicorn 25, which is told to do
# without it here, for gunicorn before that ignores a setting that it does not know, and ends at such an argument.
control_socket_disable = True

# What does not answer must not keep a process from requests that do not need it.
SECONDS = 3.0


def post_worker_init(worker: Any) -> None:
    """Warm up; gunicorn calls it in each of its processes, before that accepts.

    From then on the timers of the requests are checked, too (`celeriac.web.overdue`).

    Args:
        worker: gunicorn's (https://docs.gunicorn.org/en/stable/settings.html#post-worker-init).
    """
    if is_asgi():
        return  # what it makes in its first request may belong to the event loop that it is in
    overdue.watch(worker)
    warming = threading.Thread(target=_warm_up, args=(worker,), name="celeriac-warm", daemon=True)
    warming.start()
    warming.join(SECONDS)


def _warm_up(worker: Any) -> None:
    """Ask for the pages, first in one thread and then in all, and connect to the broker.

    What goes wrong here goes wrong again when somebody asks, and is answered then.
    """
    from celeriac.web.wsgi import app  # the readiness check, which is within, comes at its own time

    began = time.monotonic()
    try:
        _ask(worker)
        _ask_in_threads(worker)
        _connect(app)
    except Exception as error:
        worker.log.warning("celeriac: not warm: %r", error)
    else:
        worker.log.info("celeriac: warm after %.2f s", time.monotonic() - began)
    finally:
        connections.close_all()  # of this thread, which serves nobody


def _connect(app: Celery) -> None:
    with app.producer_pool.acquire(block=False) as producer:
        producer.connection.ensure_connection(max_retries=1, interval_start=0)


def _ask(worker: Any) -> None:
    for path, host in _wanted():
        request.get(worker.wsgi, path, host)


def _wanted() -> list[tuple[str, str]]:
    host = os.environ.get("CELERIAC_HEALTH_HOST", "localhost")
    return [(path, host) for path in os.environ.get("CELERIAC_WARM_PATHS", "").split()]


async def warm_up(application: ASGIApplication, log: Any) -> None:
    """Ask an ASGI application for the pages, in the event loop that serves.

    Args:
        application: as its server calls it.
        log: gunicorn's.
    """
    from celeriac.web.asgi import app  # the readiness check, which is within, comes at its own time

    began = time.monotonic()
    try:
        async with asyncio.timeout(SECONDS):
            for path, host in _wanted():
                await request.asked(application, path, host)
            await asyncio.to_thread(_connect, app)
    except Exception as error:
        log.warning("celeriac: not warm: %r", error)
    else:
        log.info("celeriac: warm after %.2f s", time.monotonic() - began)


def _ask_in_threads(worker: Any) -> None:
    """Ask in each thread that will serve; only gunicorn's worker ``gthread`` has any."""
    pool = getattr(worker, "tpool", None)
    if pool is None:
        return
    # Nobody takes a second turn before all have had one.
    barrier = threading.Barrier(worker.cfg.threads)

    def ask() -> None:
        barrier.wait(SECONDS)
        _ask(worker)

    for asked in [pool.submit(ask) for _ in range(worker.cfg.threads)]:
        asked.result(SECONDS)
