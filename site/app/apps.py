"""The app: posts with a counter, and the tasks that work on them."""

from django.apps import AppConfig


class AppConfiguration(AppConfig):
    """Registers the app's system checks."""

    name = "app"
    verbose_name = "Posts"

    def ready(self) -> None:
        """Import what registers itself by being imported."""
        from app import checks  # noqa: F401
