"""System checks: what the console needs beside its app."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

from celeriac.needs import errors

# The name under which each is imported and listed, and what its package is called.
PACKAGES = {
    "django_celery_results": "django-celery-results",
    "django_htmx": "django-htmx",
    "ninja": "django-ninja",
}
APPS = ("celeriac.ledger", "django.contrib.admin", *PACKAGES)
MIDDLEWARE = "django_htmx.middleware.HtmxMiddleware"


def missing_packages() -> list[str]:
    """Return the packages that the project's lock file does not have, and the console needs."""
    return [package for name, package in PACKAGES.items() if find_spec(name) is None]


@checks.register
def needs(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Name each package, each app and the middleware that is missing."""
    missing = [
        *(_error("E010", f"the package {package}", f"uv pip install {package}") for package in missing_packages()),
        *errors("celeriac.console", APPS, "E011"),
    ]
    if MIDDLEWARE not in settings.MIDDLEWARE:
        missing.append(_error("E012", f"{MIDDLEWARE!r} in MIDDLEWARE", f'MIDDLEWARE = [..., "{MIDDLEWARE}"]'))
    return missing


def _error(number: str, what: str, hint: str) -> checks.CheckMessage:
    return checks.Error(f"celeriac.console needs {what}.", hint=hint, id=f"celeriac.{number}")
