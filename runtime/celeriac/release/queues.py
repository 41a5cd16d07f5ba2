"""The queues that the project feeds, and those that workers read: a step of `celeriac.release`.

``CELERIAC_WORKER_QUEUES`` says what workers read, on all hosts, as JSON: ``plain`` has the queues of each plain worker
(none: all that the project declares), ``pools`` each pool as ``{"key": name, "value": {"queues": […]}}``, ``others``
what the operator says is fed or read by something else.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from celery import Celery
from django.apps import apps
from django.core.management import CommandError
from django.db import DatabaseError

from celeriac.configure import RETRIES_IN_WEB, configure
from celeriac.project import celery_app

CHOICE = "site_other_queues"
# Modules of these packages feed no queue of the project.
NOT_THE_PROJECTS = frozenset({"celery", "celeriac", "kombu", "django", "django_celery_beat", "django_celery_results"})


def check() -> str:
    """Find out whether each queue that the project feeds is read, and each queue of a pool is fed.

    Nothing is refused where the operator has not chosen which worker reads what: the workers are as the project has
    them then.

    Returns:
        How many queues there are.

    Raises:
        CommandError: a queue is fed that nobody reads, or read by a pool and fed by nobody; with the choice that helps.
    """
    chosen = json.loads(os.environ.get("CELERIAC_WORKER_QUEUES") or "{}")
    plain, pools = chosen.get("plain", []), {pool["key"]: pool["value"] for pool in chosen.get("pools", [])}
    app = configure(celery_app(), result_retries=RETRIES_IN_WEB)
    app.finalize()
    fed = dict(_fed(app))
    if not pools and not any(plain):
        return f"{len(fed)} are fed, and the workers read what the project says"
    declared = {name for name, queue in app.amqp.queues.items() if not queue.auto_delete}
    others = set(chosen.get("others", []))
    read = {str(name) for queues in plain for name in queues or declared}
    of_pools = {str(name): pool for pool, value in pools.items() for name in value.get("queues", [])}
    faults = [
        f"{said_by} sends to the queue {name}, and no worker reads it: give it to a pool "
        f"(celery_worker_pools: {{ {_pool_name(name)}: {{ queues: [{name}] }} }}), or say that something else does "
        f"({CHOICE}: [{name}])."
        for name, said_by in sorted(fed.items())
        if name not in read | of_pools.keys() | others
    ]
    known = fed.keys() | declared | others
    faults += [
        f"The pool {pool} reads the queue {name}, and nothing of the project sends to it. Perhaps it is one of these: "
        f"{', '.join(sorted(fed))}. Or say that something else does ({CHOICE}: [{name}])."
        for name, pool in sorted(of_pools.items())
        if name not in known and _routes_are_known(app) and not _is_named(name, app)
    ]
    if faults:
        raise CommandError("\n".join(faults))
    return f"{len(fed)} are fed, all of them are read"


def _pool_name(queue: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", queue.lower()).strip("-") or "more"


def _fed(app: Celery) -> Iterator[tuple[str, str]]:
    """Yield the queues that something sends to, and what says so; the last word on each is the clearest."""
    routes = dict(_routes(app))
    if not any(isinstance(routes.get(each), str) or "queue" in routes.get(each, {}) for each in ("*", ".*")):
        yield app.conf.task_default_queue, "The project's default (task_default_queue)"
    for name, task in app.tasks.items():
        if queue := getattr(task, "queue", None):
            yield _name(queue), f"The task {name}"
    for name, entry in (app.conf.beat_schedule or {}).items():
        if queue := (entry.get("options") or {}).get("queue"):
            yield _name(queue), f"The entry {name!r} of beat_schedule"
    yield from _fed_by_entries()
    for pattern, route in _routes(app):
        if queue := route if isinstance(route, str) else route.get("queue"):
            yield _name(queue), f"The route of {pattern!r} in task_routes"


def _fed_by_entries() -> Iterator[tuple[str, str]]:
    """Yield the queues of the schedule in the database; before its first migration it has none."""
    if not apps.is_installed("django_celery_beat"):
        return
    from django_celery_beat.models import PeriodicTask

    found = PeriodicTask.objects.filter(enabled=True).exclude(queue=None).exclude(queue="")
    try:
        for name, queue in list(found.values_list("name", "queue")):
            yield queue, f"The periodic task {name!r}"
    except DatabaseError:
        return


def _routes(app: Celery) -> Iterator[tuple[str, Any]]:
    """Yield those routes that are written down: a pattern, and a queue or a mapping of options."""
    routes = app.conf.task_routes
    for router in routes if isinstance(routes, list | tuple) else [routes]:
        pairs = router.items() if isinstance(router, Mapping) else router if _is_pairs(router) else ()
        for pattern, route in pairs:
            if isinstance(route, str | Mapping):
                yield str(getattr(pattern, "pattern", pattern)), route


def _is_pairs(router: Any) -> bool:
    """Return whether a router is a list of patterns with their routes."""
    return isinstance(router, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in router
    )


def _routes_are_known(app: Celery) -> bool:
    """Return whether all routes name their queue: a function, or an exchange, may lead anywhere."""
    routes = app.conf.task_routes
    routers = routes if isinstance(routes, list | tuple) else [routes]
    written = all(router is None or isinstance(router, Mapping) or _is_pairs(router) for router in routers)
    named = [set(route) for _, route in _routes(app) if isinstance(route, Mapping)]
    return written and not any({"exchange", "routing_key"} & options for options in named)


def _name(queue: Any) -> str:
    """Return the name of a queue, which may be given as one of kombu's."""
    return str(getattr(queue, "name", queue))


def _is_named(queue: str, app: Celery) -> bool:
    """Return whether code of the project has the name of a queue: it may send there by hand, and no setting says so."""
    text = re.compile(rf"""["']{re.escape(queue)}["']""")
    return any(text.search(file.read_text(errors="replace")) for file in _files(app))


def _files(app: Celery) -> Iterable[Path]:
    folders = {Path.cwd()}
    for module in {task.__module__.partition(".")[0] for task in app.tasks.values()} - NOT_THE_PROJECTS:
        file = getattr(sys.modules.get(module), "__file__", None)
        if file and Path(file).name == "__init__.py":
            folders.add(Path(file).parent)
    return (file for folder in sorted(folders) for file in folder.rglob("*.py") if ".venv" not in file.parts)
