"""Our parts, added to the Celery app of the project."""

import os

from celery import Celery
from django.conf import settings

import celeriac.tasks  # noqa: F401  (shared tasks: every app of the process gets them)
from celeriac import ids, transport
from celeriac.defaults import DURABLE, REDIS
from celeriac.internals import is_set, log_success, retry_on_redis

BACKEND = "celeriac.results:DatabaseBackend"

# What Celery does between two attempts: before attempt n it sleeps at random up to 10 ms · 2ⁿ, at
# most 10 s (result_backend_base_sleep_between_retries_ms and its neighbours in its reference).
RETRIES_IN_WORKER = 20  # about a minute, at most two: a restart of the database, a fail-over
RETRIES_IN_WEB = 3  # at most 0.14 s: enough for a stale connection, while somebody waits

# What a task returned may be what no log should have.
SUCCESS_WITHOUT_RESULT = "Task %(name)s[%(id)s] succeeded in %(runtime)ss"

_REPLACED = {
    "django-db",
    "django_celery_results.backends.DatabaseBackend",
    "django_celery_results.backends.database.DatabaseBackend",
    BACKEND.replace(":", "."),
}


def configure(app: Celery, *, result_retries: int) -> Celery:
    """Add to the project's app what our processes need of it. Doing it again changes nothing.

    The ping task is added. A broker on Redis is spoken to by `celeriac.transport`. A task is
    acknowledged when it has ended, and comes back when its process is lost, unless the project or
    the task says otherwise. The ``django-db`` result backend is replaced by the one that survives a
    restart of the database (`celeriac.results`); one on Redis tries again when that is away; any
    other is left alone. What the database has no room for is refused to its sender
    (`celeriac.ids`). The log says of a task that it succeeded, and what it returned only with
    ``CELERIAC_LOG_RESULTS=yes``.

    Args:
        app: the project's own app; it is changed in place.
        result_retries: how often an operation on results is tried again while the database is
            away.

    Returns:
        The same app.
    """
    transport.install()
    if os.environ.get("CELERIAC_LOG_RESULTS") != "yes":
        log_success(SUCCESS_WITHOUT_RESULT)
    app.conf.update({name: value for name, value in DURABLE.items() if not is_set(app, name)})
    configured = app.backend_cls or app.conf.result_backend
    if isinstance(configured, str) and configured.replace(":", ".") in _REPLACED:
        # Not only the setting, which CELERY_RESULT_BACKEND in the environment outranks: a host has that.
        app.backend_cls = BACKEND
        app.conf.update(
            result_backend=BACKEND,
            result_backend_always_retry=True,
            result_backend_max_retries=result_retries,
        )
        ids.refuse_longer_than(getattr(settings, "DJANGO_CELERY_RESULTS_TASK_ID_MAX_LENGTH", 255))
    elif isinstance(configured, str) and configured.partition(":")[0] in REDIS:
        # Celery's backend tries writes again, and the read before a task only if it is told to: a
        # task would be acknowledged that was never executed.
        retry_on_redis()
        app.conf.update(result_backend_always_retry=True, result_backend_max_retries=result_retries)
    return app
