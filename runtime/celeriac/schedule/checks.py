"""System checks: what the schedule needs beside its app."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks

from celeriac.needs import errors, package_errors

# The name under which each is imported and listed, and what its package is called.
PACKAGES = {"django_celery_beat": "django-celery-beat"}
APPS = ("celeriac.ledger", *PACKAGES)


@checks.register
def needs(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Name each package and each app that is missing."""
    return [
        *package_errors("celeriac.schedule", PACKAGES, "E021"),
        *errors("celeriac.schedule", APPS, "E020"),
    ]
