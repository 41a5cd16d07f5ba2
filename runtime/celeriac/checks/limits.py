"""Whether time limits are in order: soft below hard, and hard below what Redis waits."""

from collections.abc import Iterator, Sequence
from typing import Any

from celery import Task, current_app
from django.apps import AppConfig
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import autodiscover_modules

from celeriac import transport
from celeriac.internals import soft_shutdown_seconds


def refuse_disorder() -> None:
    """Say nothing if the limits that every task has by default are in order.

    Raises:
        ImproperlyConfigured: they are not. Celery itself would start with them.
    """
    conf = current_app.conf
    hard, soft, shutdown = conf.task_time_limit, conf.task_soft_time_limit, soft_shutdown_seconds(conf)
    in_order = soft is None or (soft > 0 and (hard is None or soft < hard))
    if not in_order or (hard is not None and hard <= 0) or shutdown < 0:
        raise ImproperlyConfigured(
            "CELERY_TASK_SOFT_TIME_LIMIT must be above 0 and below CELERY_TASK_TIME_LIMIT, and "
            "CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT must not be negative. In seconds they are "
            f"{soft}, {hard} and {shutdown}."
        )


@checks.register
def task_time_limits(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Refuse a task whose own soft time limit is not below its hard one, or that Redis would give away while it runs.

    This is about `@shared_task(time_limit=...)`, and a visibility timeout of the project's own: one of ours is
    longer than any task (`celeriac.defaults`). A task allowed to run longer is given to a second worker while the
    first still runs it, unless that has a lease (`celeriac.transport`). On a host it has: there that is only said,
    not refused, for `celery -A PROJECT worker` has none.

    Source: https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html
    """
    autodiscover_modules("tasks")
    return [each for name, task in sorted(current_app.tasks.items()) for each in _wrong(name, task)]


def _wrong(name: str, task: "Task[Any, Any]") -> Iterator[checks.CheckMessage]:
    conf = current_app.conf
    hard = task.time_limit or conf.task_time_limit
    soft = task.soft_time_limit or conf.task_soft_time_limit
    if not hard:
        return
    if soft and soft >= hard:
        yield checks.Error(
            f"Task {name}: its soft time limit ({soft} s) is not below its hard one ({hard} s).",
            hint="Set both in the task's decorator, the soft one lower.",
            id="celeriac.E030",
        )
    visibility = conf.broker_transport_options.get("visibility_timeout")
    if visibility is not None and hard + soft_shutdown_seconds(conf) >= visibility:
        why_no_lease = transport.why_not()
        yield checks.CheckMessage(
            checks.ERROR if why_no_lease else checks.INFO,
            f"Task {name}: with a time limit of {hard} s Redis would give it to a second worker after "
            f"{visibility} s, while it still runs, if its worker has no lease.",
            hint=f"{why_no_lease or 'celery -A PROJECT worker has none'}. "
            "Leave visibility_timeout out of CELERY_BROKER_TRANSPORT_OPTIONS: then it is as long as it must be.",
            id="celeriac.E031" if why_no_lease else "celeriac.I031",
        )
