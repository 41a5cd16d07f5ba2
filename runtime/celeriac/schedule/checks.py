"""System checks: what the schedule needs beside its app."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks

from celeriac.needs import errors

APPS = ("celeriac.ledger", "django_celery_beat")


@checks.register
def needs(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Name each app that is missing."""
    return errors("celeriac.schedule", APPS, "E020")
