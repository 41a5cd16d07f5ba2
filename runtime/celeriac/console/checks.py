"""System checks: what the console needs beside its app."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

from celeriac.needs import errors, package_errors

# The name under which each is imported and listed, and what its package is called.
PACKAGES = {
    "django_celery_results": "django-celery-results",
    "django_htmx": "django-htmx",
    "ninja": "django-ninja",
}
APPS = ("celeriac.ledger", "django.contrib.admin", *PACKAGES)
MIDDLEWARE = "django_htmx.middleware.HtmxMiddleware"


@checks.register
def needs(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Name each package, each app and the middleware that is missing."""
    missing = [
        *package_errors("celeriac.console", PACKAGES, "E010"),
        *errors("celeriac.console", APPS, "E011"),
    ]
    if MIDDLEWARE not in settings.MIDDLEWARE:
        text = f"celeriac.console needs {MIDDLEWARE!r} in MIDDLEWARE."
        missing.append(checks.Error(text, hint=f'MIDDLEWARE = [..., "{MIDDLEWARE}"]', id="celeriac.E012"))
    return missing
