"""The app."""

from django.apps import AppConfig


class ProbeConfiguration(AppConfig):
    """What Django calls the app."""

    name = "probe"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Teach the worker the commands."""
        from . import commands  # noqa: F401
