"""Whether the results keep arguments that a task wants kept nowhere."""

from collections.abc import Sequence
from typing import Any

from celery import current_app
from celery.backends.base import DisabledBackend
from django.apps import AppConfig
from django.core import checks
from django.utils.module_loading import autodiscover_modules

from celeriac.registry import keeps_arguments


@checks.register
def arguments_never_stored(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Refuse a task whose arguments must not be stored where results in Redis store them.

    In the database a result has only what the message says about them, which the journal takes out. Redis gets
    the true ones, as long as results are extended.

    Source: https://docs.celeryq.dev/en/stable/userguide/configuration.html#result-extended
    """
    autodiscover_modules("tasks")
    secret = [
        name for name, task in sorted(current_app.tasks.items()) if not keeps_arguments(task) and not task.ignore_result
    ]
    # The backend is made only where it matters: its app may be the one that another check finds missing.
    if not secret or not current_app.conf.result_extended:
        return []
    backend = current_app.backend
    if isinstance(backend, DisabledBackend) or _is_in_database(backend):
        return []
    return [
        checks.Error(
            f"Task {name}: keep_arguments=False, but the results keep them in {type(backend).__name__}.",
            hint="Set CELERY_RESULT_EXTENDED to false, or ignore_result=True in the task's decorator.",
            id="celeriac.E032",
        )
        for name in secret
    ]


def _is_in_database(backend: object) -> bool:
    """Return whether it is django-celery-results, or made from it; it need not be installed."""
    return any(base.__module__ == "django_celery_results.backends.database" for base in type(backend).__mro__)
