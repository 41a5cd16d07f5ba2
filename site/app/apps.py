"""The app: posts with a counter, and the tasks that work on them."""

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db.models.functions import Now
from django.db.models.signals import pre_save
from django.utils import timezone


class AppConfiguration(AppConfig):
    """Registers the app's system checks, and looks after the names of the settings."""

    name = "app"
    verbose_name = "Posts"

    def ready(self) -> None:
        """Import what registers itself by being imported; stop at a misspelt setting of Celery."""
        from app import checks, setting_names  # noqa: F401

        # Here and not in a system check: neither gunicorn nor beat runs those.
        setting_names.refuse_unknown(dir(settings), settings.SETTINGS_MODULE)
        if not settings.USE_TZ:
            pre_save.connect(_begin_in_time_zone, sender="django_celery_results.TaskResult", dispatch_uid="app")


def _begin_in_time_zone(instance: Any, **_: Any) -> None:
    """Note the start of a task by our clock: the library asks the database, and that of SQLite knows UTC only."""
    if isinstance(instance.date_started, Now):
        instance.date_started = timezone.now()
