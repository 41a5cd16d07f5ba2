"""The app that a project adds."""

from django.apps import AppConfig
from django.conf import settings


class ChecksConfig(AppConfig):
    """Looks at the settings as each process starts, and at the tasks in ``manage.py check``."""

    name = "celeriac.checks"
    label = "celeriac_checks"
    verbose_name = "Checks of Celery's settings"

    def ready(self) -> None:
        """Import the system checks, which register themselves; stop at settings that are wrong.

        These are none of the system checks: neither gunicorn nor beat runs those.
        """
        from celeriac.checks import arguments, limits, names  # noqa: F401

        names.refuse_unknown(dir(settings), settings.SETTINGS_MODULE)
        limits.refuse_disorder()
