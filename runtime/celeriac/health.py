"""The endpoints under ``/-/celeriac/``, which a deployment asks whether the release works.

=====================================  =====  ====================================================
request                                       answer, JSON
=====================================  =====  ====================================================
``POST /-/celeriac/ping``              202    ``{"id": "<uuid>"}``: a ping task is in the queue
``GET /-/celeriac/ping/<uuid>``        200    ``{"state": "SUCCESS", "result": {"release": …,
                                              "hostname": …}}``; the result is null until then
``GET /-/celeriac/status``             200    ``{"release": …, "unapplied_migrations": […]}``
the broker or the database is away     503    ``{"error": "…"}``
=====================================  =====  ====================================================

Each needs ``Authorization: Bearer $CELERIAC_HEALTH_TOKEN``. Without the right token, and while
none is configured, everything here is 404.
"""

import hmac
import json
import logging
import os
import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from celery import Celery
from django.db import close_old_connections, connection
from django.db.migrations.executor import MigrationExecutor

from celeriac.project import release
from celeriac.tasks import PING, Pong

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PREFIX = "/-/celeriac/"

# A check that hangs says nothing. Connecting and publishing may each take this long.
BROKER_TIMEOUT_SECONDS = 2.0

Answer = tuple[HTTPStatus, dict[str, Any]]

_log = logging.getLogger(__name__)


def answer(
    app: Celery, environ: "WSGIEnvironment", start_response: "StartResponse"
) -> Iterable[bytes]:
    """Answer a request whose path begins with `PREFIX` (PEP 3333)."""
    headers: list[tuple[str, str]] = []
    route = _route(environ["PATH_INFO"].removeprefix(PREFIX)) if _authorized(environ) else None
    if route is None:
        status, content = HTTPStatus.NOT_FOUND, {"error": "not found"}
    elif environ["REQUEST_METHOD"] != route[0]:
        headers.append(("Allow", route[0]))
        status, content = HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"only {route[0]}"}
    else:
        status, content = _guarded(lambda: route[1](app))
    body = json.dumps(content).encode()
    headers += [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]


def _authorized(environ: "WSGIEnvironment") -> bool:
    token = os.environ.get("CELERIAC_HEALTH_TOKEN", "")
    scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    # A header's text is Latin-1 in WSGI; the comparison takes as long for a near miss as for a far.
    right = hmac.compare_digest(given.strip().encode("latin-1"), token.encode())
    return bool(token) and scheme.lower() == "bearer" and right


def _route(path: str) -> tuple[str, Callable[[Celery], Answer]] | None:
    """Return the method and the handler for a path below `PREFIX`."""
    if path == "ping":
        return "POST", _send_ping
    if path == "status":
        return "GET", _status
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


def _send_ping(app: Celery) -> Answer:
    """Put a ping task into the queue, over a connection of its own that is closed afterwards.

    The project's policy may retry a publish for minutes; here one attempt must do.
    """
    with app.connection_for_write(connect_timeout=BROKER_TIMEOUT_SECONDS) as broker:
        timeouts = _timeouts(broker.transport.driver_type)
        broker.transport_options = {**(broker.transport_options or {}), **timeouts}
        sent = app.send_task(
            PING,
            connection=broker,
            retry=False,
            expires=app.tasks[PING].expires,
            # With a result backend on Redis, a publisher subscribes to the result and keeps that
            # for ever; not so when it ignores the result. The worker obeys the header and stores.
            ignore_result=True,
            headers={"ignore_result": False},
        )
    return HTTPStatus.ACCEPTED, {"id": sent.id}


def _timeouts(driver_type: str) -> dict[str, float]:
    """Return the options by which a transport of kombu bounds one read or write."""
    seconds = BROKER_TIMEOUT_SECONDS
    return {
        "redis": {"socket_timeout": seconds, "socket_connect_timeout": seconds, "max_retries": 1},
        "amqp": {"read_timeout": seconds, "write_timeout": seconds, "max_retries": 1},
    }.get(driver_type, {})


def _read_ping(app: Celery, task_id: str) -> Answer:
    """Report a ping. Of any other task no more than its state: its result is not ours to show."""
    meta = app.backend.get_task_meta(task_id, cache=False)
    result = meta["result"]
    is_pong = isinstance(result, dict) and result.keys() == Pong.__annotations__.keys()
    return HTTPStatus.OK, {"state": meta["status"], "result": result if is_pong else None}


def _status(_: Celery) -> Answer:
    """Report the release, and the migrations of its code that the database does not have."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    unapplied = [f"{migration.app_label}.{migration.name}" for migration, _ in plan]
    return HTTPStatus.OK, {"release": release(), "unapplied_migrations": unapplied}
