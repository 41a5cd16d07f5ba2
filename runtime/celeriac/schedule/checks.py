"""System checks: what the schedule needs beside its app."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core import checks

APPS = ("celeriac.ledger", "django_celery_beat")


@checks.register
def needs(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Name each app that is missing."""
    return [
        checks.Error(
            f"celeriac.schedule needs {name!r} in INSTALLED_APPS.",
            hint=f'INSTALLED_APPS = [..., "celeriac.schedule", "{name}"]',
            id="celeriac.E020",
        )
        for name in APPS
        if not apps.is_installed(name)
    ]
