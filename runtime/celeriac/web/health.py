"""The endpoints under ``/-/celeriac/``, which a deployment asks whether the release works.

=====================================  =====  ====================================================
request                                       answer, JSON
=====================================  =====  ====================================================
``POST /-/celeriac/ping``              202    ``{"id": "<uuid>"}``: a ping task is in the queue;
                                              with ``?queue=mail`` in that of a pool
``GET /-/celeriac/ping/<uuid>``        200    ``{"state": "SUCCESS", "result": {"release": …,
                                              "hostname": …}}``; PENDING and null until then
``GET /-/celeriac/status``             200    ``{"release": …, "applied_migrations": […],
                                              "unapplied_migrations": […]}``
``GET /-/celeriac/workers``            200    ``{"workers": {"<node>": {"active": 1,
                                              "executed": 20, "guarantees": {…}}},
                                              "queues": {"celery": 7},
                                              "broker": {"transport": "celeriac",
                                              "memory": 0.02, "parked": 0}, "off": []}``; with a
                                              broker before what waits there: ``"before": {}``
``GET /-/celeriac/ledger``             200    ``{"not_noted": 0, …}``: `celeriac.ledger.report`;
                                              404 where the project has not installed it
``GET /-/celeriac/metrics``            200    no JSON, but what Prometheus reads:
                                              `celeriac.web.metrics`
``GET /-/celeriac/session/…``          204    whether a session of the site opens Flower:
                                              `celeriac.web.session`
the broker or the database is away     503    ``{"error": "…"}``
=====================================  =====  ====================================================

Each needs ``Authorization: Bearer $CELERIAC_HEALTH_TOKEN``, the metrics that of
``$CELERIAC_METRICS_TOKEN``, for who reads them sends no task. Without the right token, and while none
is configured, everything here is 404.
"""

import hmac
import json
import logging
import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from celery import Celery
from django.apps import apps
from django.db import close_old_connections, connection
from django.db.migrations.executor import MigrationExecutor

from celeriac import moving, parked
from celeriac.broker import connect, inspector, memory, sizes
from celeriac.project import release
from celeriac.tasks import PING, pong
from celeriac.transport import transport_of
from celeriac.versions import off
from celeriac.web import exposition, metrics, session

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PREFIX = "/-/celeriac/"

# Of which each has a token of its own.
_METRICS = "metrics"

# A text is a page of metrics.
Answer = tuple[HTTPStatus, dict[str, Any] | str]

_log = logging.getLogger(__name__)


def answer(app: Celery, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer a request whose path begins with `PREFIX` (PEP 3333)."""
    headers: list[tuple[str, str]] = []
    path, query = environ["PATH_INFO"].removeprefix(PREFIX), environ.get("QUERY_STRING", "")
    authorized = _authorized(environ, path)
    if authorized and path in session.PATHS and environ["REQUEST_METHOD"] == "GET":
        return session.answer(environ, start_response, path)
    route = _route(path, query) if authorized else None
    content: dict[str, Any] | str
    if route is None:
        status, content = HTTPStatus.NOT_FOUND, {"error": "not found"}
    elif environ["REQUEST_METHOD"] != route[0]:
        headers.append(("Allow", route[0]))
        status, content = HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"only {route[0]}"}
    else:
        status, content = _guarded(lambda: route[1](app))
    if isinstance(content, str):
        kind, body = exposition.CONTENT_TYPE, content.encode()
    else:
        kind, body = "application/json", json.dumps(content).encode()
    headers += [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]


def _authorized(environ: "WSGIEnvironment", path: str) -> bool:
    token = os.environ.get("CELERIAC_METRICS_TOKEN" if path == _METRICS else "CELERIAC_HEALTH_TOKEN", "")
    scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    # A header's text is Latin-1 in WSGI; the comparison takes as long for a near miss as for a far.
    right = hmac.compare_digest(given.strip().encode("latin-1"), token.encode())
    return bool(token) and scheme.lower() == "bearer" and right


def _route(path: str, query: str) -> tuple[str, Callable[[Celery], Answer]] | None:
    """Return the method and the handler for a path below `PREFIX`."""
    if path == "ping":
        return "POST", partial(_send_ping, queue=_queue_in(query))
    if path == "status":
        return "GET", _status
    if path == "workers":
        return "GET", _workers
    if path == "ledger" and apps.is_installed("celeriac.ledger"):
        return "GET", _ledger
    if path == _METRICS:
        return "GET", _metrics
    if match := re.fullmatch(r"ping/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", path):
        return "GET", lambda app: _read_ping(app, match[1])
    return None


def _guarded(handler: Callable[[], Answer]) -> Answer:
    """Call a handler; whatever it raises is the finding of a health check: 503.

    These requests pass by Django's handler, which otherwise sees to the database connections.
    """
    close_old_connections()
    try:
        return handler()
    except Exception as error:
        _log.exception("health check failed")
        return HTTPStatus.SERVICE_UNAVAILABLE, {"error": f"{type(error).__name__}: {error}"}
    finally:
        close_old_connections()


def _queue_in(query: str) -> str:
    """Return the queue that a request names, empty for none."""
    return parse_qs(query).get("queue", [""])[0]


def _send_ping(app: Celery, queue: str) -> Answer:
    """Put a ping task into a queue of the workers, over a connection of its own, closed then.

    ``CELERIAC_PING_QUEUE`` is the one of the plain worker where that does not consume the project's default one.
    The project's policy may retry a publish for minutes; here one attempt must do.
    """
    with connect(app) as broker:
        sent = app.send_task(
            PING,
            connection=broker,
            retry=False,
            expires=app.tasks[PING].expires,
            queue=queue or os.environ.get("CELERIAC_PING_QUEUE") or None,
            # The answer comes another way: no result backend is asked, whatever it is.
            ignore_result=True,
        )
    return HTTPStatus.ACCEPTED, {"id": sent.id}


def _read_ping(app: Celery, task_id: str) -> Answer:
    """Report the answer to a ping; of any other task there is none."""
    with connect(app) as broker:
        found = pong(broker, task_id)
    return HTTPStatus.OK, {"state": "SUCCESS" if found else "PENDING", "result": found}


def _status(_: Celery) -> Answer:
    """Report the release, the migrations of the database, and those of the code that it has not."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    unapplied = [f"{migration.app_label}.{migration.name}" for migration, _ in plan]
    applied = sorted(f"{app}.{name}" for app, name in executor.loader.applied_migrations)
    return HTTPStatus.OK, {
        "release": release(),
        "applied_migrations": applied,
        "unapplied_migrations": unapplied,
    }


def _workers(app: Celery) -> Answer:
    """Report what the workers do, what waits in each queue, and how the broker is."""
    with connect(app) as broker:
        inspect = inspector(app, broker, 1.0)
        stats, active = (inspect.stats() or {}, inspect.active() or {}) if inspect else ({}, {})
        workers = {
            name: {
                "active": len(active.get(name, ())),
                "executed": sum(found["total"].values()),
                "guarantees": found.get("guarantees"),
            }
            for name, found in stats.items()
        }
        queues = sizes(app, broker)
        about: dict[str, Any] = {
            "transport": transport_of(broker),
            "memory": memory(broker),
            "parked": parked.count(broker),
        }
    if moving.is_wanted():
        about["before"] = moving.left(app)
    return HTTPStatus.OK, {"workers": workers, "queues": queues, "broker": about, "off": off()}


def _ledger(_: Celery) -> Answer:
    """Report what the journal has counted, and what it finds missing."""
    from celeriac.ledger.report import report  # has models, which a project may not have

    return HTTPStatus.OK, report()


def _metrics(app: Celery) -> Answer:
    """Report all figures; what does not answer is part of them."""
    return HTTPStatus.OK, metrics.page(app)
