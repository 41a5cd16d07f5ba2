"""The app: posts with a counter, and the tasks that work on them."""

from django.apps import AppConfig
from django.conf import settings


class AppConfiguration(AppConfig):
    """Registers the app's system checks, and looks after the names of the settings."""

    name = "app"
    verbose_name = "Posts"

    def ready(self) -> None:
        """Import what registers itself by being imported; stop at a misspelt setting of Celery."""
        from app import checks, setting_names  # noqa: F401

        # Here and not in a system check: neither gunicorn nor beat runs those.
        setting_names.refuse_unknown(dir(settings), settings.SETTINGS_MODULE)
