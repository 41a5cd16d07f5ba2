"""A web process has done once what its requests do, before the first of them comes.

The first requests of a fresh process compile templates, import what is imported late, and connect.
While a release is switched in, all processes are fresh at once, and each has several such requests
at a time. So each of them asks itself for some pages first. Those of the release before serve
meanwhile; at a boot, requests wait in the socket.

gunicorn reads this module as its configuration (``--config=python:celeriac.warm``).

=======================  ========================================================================
``CELERIAC_WARM_PATHS``  what to ask for, with spaces between: ``/ /news/``; nothing if not set
``CELERIAC_HEALTH_HOST`` under which name: ``www.example.org``
=======================  ========================================================================
"""

import os
import threading
import time
from typing import Any

from django.db import connections

from celeriac import request

# What does not answer must not keep a process from requests that do not need it.
SECONDS = 3.0


def post_worker_init(worker: Any) -> None:
    """Warm up; gunicorn calls it in each of its processes, before that accepts.

    Args:
        worker: gunicorn's (https://docs.gunicorn.org/en/stable/settings.html#post-worker-init).
    """
    warming = threading.Thread(target=_warm, args=(worker,), name="celeriac-warm", daemon=True)
    warming.start()
    warming.join(SECONDS)


def _warm(worker: Any) -> None:
    """Ask for the pages, and connect to the broker.

    What goes wrong here goes wrong again when somebody asks, and is answered then.
    """
    from celeriac.wsgi import app  # the judgement, which is within, comes at its own time

    began = time.monotonic()
    host = os.environ.get("CELERIAC_HEALTH_HOST", "localhost")
    try:
        for path in os.environ.get("CELERIAC_WARM_PATHS", "").split():
            request.get(worker.wsgi, path, host)
        with app.producer_pool.acquire(block=False) as producer:
            producer.connection.ensure_connection(max_retries=1, interval_start=0)
    except Exception as error:
        worker.log.warning("celeriac: not warm: %r", error)
    else:
        worker.log.info("celeriac: warm after %.2f s", time.monotonic() - began)
    finally:
        connections.close_all()  # of this thread
