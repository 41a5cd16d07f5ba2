"""Our parts, added to the Celery app of the project."""

import logging
import os
import ssl
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from celery import Celery
from celery.signals import after_setup_logger
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from kombu.utils.url import url_to_parts

import celeriac.tasks  # noqa: F401  (shared tasks: every app of the process gets them)
from celeriac import defaults, figures, guarantees, ids, quorum, transport
from celeriac.internals import keep_failed_retries, log_success, retry_on_redis, set_over

BACKEND = "celeriac.results:DatabaseBackend"

# What Celery does between two attempts: before attempt n it sleeps at random up to 10 ms · 2ⁿ, at
# most 10 s (result_backend_base_sleep_between_retries_ms and its neighbours in its reference).
RETRIES_IN_WORKER = 20  # about a minute, at most two: a restart of the database, a fail-over
RETRIES_IN_WEB = 3  # at most 0.14 s: enough for a stale connection, while somebody waits

# Of `site_broker`: its address; empty where the project says it.
BROKER = "CELERIAC_BROKER_URL"

# Of `site_result_backend`: what it is, or the URL of a Redis. Nothing is the project's own.
CHOICE = "CELERIAC_RESULT_BACKEND"

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

    The ping task is added. A task whose retry cannot be sent stays in its queue. On a cluster of
    RabbitMQ all queues are on several hosts (`celeriac.quorum`). Tasks are sent through the broker
    that ``CELERIAC_BROKER_URL`` names. One on Redis is spoken to by `celeriac.transport`. What
    keeps a promise is laid on the app where the project says nothing (`celeriac.defaults`), and
    each task has its guarantee (`celeriac.guarantees`). The ``django-db`` result backend is
    replaced by the one that survives a restart of the database (`celeriac.results`); one on Redis
    tries again when that is away; any other is left alone. What the database has no room for is
    refused to its sender (`celeriac.ids`).
    Where metrics are wanted, a task says when it was sent (`celeriac.figures`).
    The log says of a task that it succeeded, and what it returned only with ``CELERIAC_LOG_RESULTS=yes``.

    Args:
        app: the project's own app; it is changed in place.
        result_retries: how often an operation on results is tried again while the database is
            away, and a publication while the broker is.

    Raises:
        ImproperlyConfigured: results are to be where the project cannot have them.

    Returns:
        The same app.
    """
    transport.install()
    keep_failed_retries()
    if os.environ.get("CELERIAC_LOG_RESULTS") != "yes":
        log_success(SUCCESS_WITHOUT_RESULT)
    _choose_broker(app, os.environ.get(BROKER, ""))
    defaults.lay(app, retries=result_retries)
    quorum.lay(app)
    guarantees.lay(app)
    figures.connect()
    _choose_results(app, os.environ.get(CHOICE, ""))
    configured = app.backend_cls or app.conf.result_backend
    if isinstance(configured, str) and configured.replace(":", ".") in _REPLACED:
        # Not only the setting, which CELERY_RESULT_BACKEND in the environment outranks.
        app.backend_cls = BACKEND
        set_over(
            app,
            result_backend=BACKEND,
            result_backend_always_retry=True,
            result_backend_max_retries=result_retries,
        )
        ids.refuse_longer_than(getattr(settings, "DJANGO_CELERY_RESULTS_TASK_ID_MAX_LENGTH", 255))
    elif isinstance(configured, str) and configured.partition(":")[0] in defaults.REDIS:
        # Celery's backend tries writes again, and the read before a task only if it is told to: a
        # task would be acknowledged that was never executed.
        retry_on_redis()
        set_over(app, result_backend_always_retry=True, result_backend_max_retries=result_retries)
    return app


def _let_out(**_: Any) -> None:
    """Have what Celery logs come out.

    A project's LOGGING may give its logger a handler, and let it pass nothing on. Celery takes the handler away
    (``worker_hijack_root_logger``), and a worker that cannot start ends without a word.
    """
    own = logging.getLogger("celery")
    own.propagate = own.propagate or not own.handlers


after_setup_logger.connect(_let_out)


def _choose_broker(app: Celery, url: str) -> None:
    """Send tasks through the broker that the inventory wants, whatever the project says."""
    if not url:
        return
    for variable in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        os.environ.pop(variable, None)  # Celery prefers them; `celery` makes the first of a project's BROKER_URL
    parts = urlsplit(url)
    _, _, _, user, password, _, _ = url_to_parts(url)
    encryption: dict[str, dict[str, Any]] = {
        "amqps": {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": parts.hostname},
        "rediss": {"ssl_cert_reqs": "required", "ssl_check_hostname": True},  # which redis-py before 6 leaves out
    }
    # What a project says of its own broker's transport means nothing to one of another kind.
    is_alike = defaults.is_redis(app.conf.broker_url) == defaults.is_redis(url)
    set_over(
        app,
        # Without log-in: `celery report` and Flower's page of a worker show the address, and mask these.
        broker_url=urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, "")),
        broker_read_url=None,
        broker_write_url=None,
        broker_user=user,
        broker_password=password,
        broker_vhost=None,
        broker_port=None,
        broker_transport=None,
        broker_login_method=None,
        broker_use_ssl=encryption.get(parts.scheme, False),
        broker_transport_options=app.conf.broker_transport_options if is_alike else {},
    )


def _choose_results(app: Celery, choice: str) -> None:
    """Keep results where the inventory wants them, whatever the project and Celery's own variables say."""
    scheme = choice.partition(":")[0]
    if scheme == "django-db" and not any(name.startswith("django_celery_results") for name in settings.INSTALLED_APPS):
        raise ImproperlyConfigured(
            'site_result_backend: django-db wants "django_celery_results" in INSTALLED_APPS (and in the lock); with '
            "site_result_backend: project results are where the project has them."
        )
    if scheme in defaults.REDIS:
        # Not as a URL: `celery report` and Flower's page of a worker show that, and mask these.
        _, host, port, user, password, database, _ = url_to_parts(choice)
        set_over(
            app,
            redis_host=host,
            redis_port=port,
            redis_username=user,
            redis_password=password,
            redis_db=int(database or 0),
            redis_backend_use_ssl=None,  # which is for the project's own
        )
    if choice:
        app.backend_cls = scheme
        set_over(app, result_backend=scheme)
