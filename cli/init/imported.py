"""Run by the project's own Python: what its settings are, and what they ask for that the environment does not have.

    python imported.py SETTINGS_MODULE CELERY_APP FILE

What was found is written to the file as JSON: to print is the project's business. What it can't import is said, each
part by itself.
"""

import importlib
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from celeriac.release.variables import missing

NAMES = (
    "ALLOWED_HOSTS",
    "ASGI_APPLICATION",
    "CACHES",
    "CHANNEL_LAYERS",
    "DATABASES",
    "DEBUG",
    "INSTALLED_APPS",
    "MEDIA_ROOT",
    "MEDIA_URL",
    "SECRET_KEY",
    "STATIC_URL",
    "TIME_ZONE",
    "WSGI_APPLICATION",
)
# Where projects say whether they are well, the likeliest first.
HEALTH_PATHS = (
    "/health/",
    "/healthz/",
    "/healthz",
    "/health",
    "/health-check/",
    "/healthcheck/",
    "/ht/",
    "/livez",
    "/ping/",
    "/up",
    "/status/",
)
PAGES = ("/", "/accounts/login/", "/login/", "/admin/login/")


def settings_of(module: str) -> dict[str, Any]:
    """Return the settings that say how a site has to be."""
    found = importlib.import_module(module)
    has_layer = importlib.util.find_spec("channels_redis") is not None
    return {**{name: getattr(found, name) for name in NAMES if hasattr(found, name)}, "has_channels_redis": has_layer}


def celery_of(name: str) -> dict[str, Any]:
    """Return what an app of Celery is set to."""
    from celery.app.utils import find_app

    app = find_app(name)
    conf = app.conf
    routes = conf.task_routes if isinstance(conf.task_routes, dict) else {}
    routed = [route.get("queue") for route in routes.values() if isinstance(route, dict)]
    queues = [str(getattr(queue, "name", queue)) for queue in conf.task_queues or ()]
    return {
        "namespace": app.namespace or "",
        "broker": str(conf.broker_url or ""),
        "results": str(conf.result_backend or ""),
        "queues": [*dict.fromkeys([conf.task_default_queue, *queues, *(str(name) for name in routed if name)])],
        "has_schedule": bool(conf.beat_schedule),
    }


def pages_of() -> dict[str, Any]:
    """Return which of the usual pages there are."""
    from django.urls import NoReverseMatch, Resolver404, resolve, reverse

    def is_there(path: str) -> bool:
        try:
            resolve(path)
        except Resolver404:
            return False
        return True

    try:
        admin = reverse("admin:login")
    except NoReverseMatch:
        admin = ""
    return {
        "health": [path for path in HEALTH_PATHS if is_there(path)],
        "pages": [path for path in PAGES if is_there(path)],
        "admin_login": admin,
    }


def findings() -> list[str]:
    """Return what `check --deploy` has to say, the ids; of security alone, where a check wants more than is here."""
    from django.core import checks

    try:
        found = checks.run_checks(include_deployment_checks=True)
    except Exception:
        found = checks.run_checks(tags=["security"], include_deployment_checks=True)
    return sorted({str(each.id) for each in found if each.level >= checks.WARNING and not each.is_silenced()})


def main() -> None:
    """Do it."""
    module, app, into = sys.argv[1:]
    names = missing(module)
    found: dict[str, Any] = {"missing": names, "errors": {}}

    def note(part: str, ask: Callable[..., Any], *arguments: str) -> None:
        try:
            found[part] = ask(*arguments)
        except BaseException as error:  # a project may do anything, SystemExit too
            found["errors"][part] = traceback.format_exception_only(error)[-1].strip()

    note("settings", settings_of, module)
    if "settings" in found:
        os.environ["DJANGO_SETTINGS_MODULE"] = module
        import django

        note("apps", lambda: [django.setup(), True][1])
        note("celery", celery_of, app)
        note("pages", pages_of)
        note("findings", findings)
    with open(into, "w", encoding="utf-8") as file:  # noqa: PTH123 (it runs on any Python of a project)
        json.dump(found, file, default=str)


if __name__ == "__main__":
    main()
