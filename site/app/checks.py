"""System checks: what `manage.py check` refuses before a release goes live."""

from collections.abc import Sequence
from typing import Any

from celeriac import transport
from celeriac.registry import keeps_arguments
from celery import current_app
from celery.backends.base import DisabledBackend
from django.apps import AppConfig
from django.core import checks
from django.utils.module_loading import autodiscover_modules
from django_celery_results.backends.database import DatabaseBackend


@checks.register
def task_time_limits(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Refuse a task whose own soft time limit is not below its hard one, or that Redis would give away while it runs.

    The limits that every task has by default are checked in the settings; this is about
    `@shared_task(time_limit=...)`. A task allowed to run longer than the broker's visibility
    timeout is given to a second worker while the first still runs it, unless that has a lease
    (`celeriac.transport`). On a host it has: there that is only said, not refused, for
    `celery -A TimeOut worker` has none.

    Source: https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html
    """
    autodiscover_modules("tasks")
    conf = current_app.conf
    visibility = conf.broker_transport_options.get("visibility_timeout")
    why_no_lease = transport.why_not()
    errors: list[checks.CheckMessage] = []
    for name, task in sorted(current_app.tasks.items()):
        hard = task.time_limit or conf.task_time_limit
        soft = task.soft_time_limit or conf.task_soft_time_limit
        if soft >= hard:
            errors.append(
                checks.Error(
                    f"Task {name}: its soft time limit ({soft} s) is not below its hard one ({hard} s).",
                    hint="Set both in the task's decorator, the soft one lower.",
                    id="app.E001",
                )
            )
        if visibility is not None and hard + conf.worker_soft_shutdown_timeout >= visibility:
            errors.append(
                checks.CheckMessage(
                    checks.ERROR if why_no_lease else checks.INFO,
                    f"Task {name}: with a time limit of {hard} s Redis would give it to a second worker after "
                    f"{visibility} s, while it still runs, if its worker has no lease.",
                    hint=f"{why_no_lease or 'celery -A TimeOut worker has none'}. "
                    f"Raise CELERY_TASK_TIME_LIMIT to {hard}, or split the task.",
                    id="app.E002" if why_no_lease else "app.I002",
                )
            )
    return errors


@checks.register
def arguments_never_stored(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Refuse a task whose arguments must not be stored where results in Redis store them.

    In the database a result has only what the message says about them, which the journal takes out. Redis gets
    the true ones, as long as results are extended.

    Source: https://docs.celeryq.dev/en/stable/userguide/configuration.html#result-extended
    """
    autodiscover_modules("tasks")
    if not current_app.conf.result_extended or isinstance(current_app.backend, DatabaseBackend | DisabledBackend):
        return []
    return [
        checks.Error(
            f"Task {name}: keep_arguments=False, but the results keep them in {type(current_app.backend).__name__}.",
            hint="Set CELERY_RESULT_EXTENDED to false, or ignore_result=True in the task's decorator.",
            id="app.E003",
        )
        for name, task in sorted(current_app.tasks.items())
        if not keeps_arguments(task) and not task.ignore_result
    ]
