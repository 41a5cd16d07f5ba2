"""Our parts, added to the Celery app of the project."""

from celery import Celery

import celeriac.tasks  # noqa: F401  (shared tasks: every app of the process gets them)
from celeriac import transport, worker

BACKEND = "celeriac.results:DatabaseBackend"

# What Celery does between two attempts: before attempt n it sleeps at random up to 10 ms · 2ⁿ, at
# most 10 s (result_backend_base_sleep_between_retries_ms and its neighbours in its reference).
RETRIES_IN_WORKER = 20  # about a minute, at most two: a restart of the database, a fail-over
RETRIES_IN_WEB = 3  # at most 0.14 s: enough for a stale connection, while somebody waits

_REPLACED = {
    "django-db",
    "django_celery_results.backends.DatabaseBackend",
    "django_celery_results.backends.database.DatabaseBackend",
    BACKEND.replace(":", "."),
}


def adopt(app: Celery, *, result_retries: int) -> Celery:
    """Add to the project's app what our processes need of it. Doing it again changes nothing.

    The ping task and the worker's reports to systemd are added. The ``django-db`` result backend
    is replaced by the one that survives a restart of the database (`celeriac.results`); any other
    is left alone.

    Args:
        app: the project's own app; it is changed in place.
        result_retries: how often an operation on results is tried again while the database is
            away.

    Returns:
        The same app.
    """
    transport.install()
    worker.install(app)
    configured = app.backend_cls or app.conf.result_backend
    if isinstance(configured, str) and configured.replace(":", ".") in _REPLACED:
        app.backend_cls = None
        app.conf.update(
            result_backend=BACKEND,
            result_backend_always_retry=True,
            result_backend_max_retries=result_retries,
        )
    return app
