"""The app that a project adds."""

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db.models.functions import Now
from django.db.models.signals import pre_save
from django.utils import timezone


class ConsoleConfig(AppConfig):
    """Has the workers of the project know what was revoked, however they were started."""

    name = "celeriac.console"
    label = "celeriac_console"
    verbose_name = "Console of tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect to the signals."""
        from celeriac.console import checks, revocations  # noqa: F401  (checks register themselves)

        revocations.connect()
        if not settings.USE_TZ:
            pre_save.connect(_begin_in_time_zone, sender="django_celery_results.TaskResult", dispatch_uid=self.name)


def _begin_in_time_zone(instance: Any, **_: Any) -> None:
    """Note the start of a task by our clock: the library asks the database, and that of SQLite knows UTC only."""
    if isinstance(instance.date_started, Now):
        instance.date_started = timezone.now()
