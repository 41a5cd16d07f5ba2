"""The app that a project adds."""

from django.apps import AppConfig


class ScheduleConfig(AppConfig):
    """Merges the schedule of the code into that of the database."""

    name = "celeriac.schedule"
    label = "celeriac_schedule"
    verbose_name = "Schedule of the code"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import the checks, which register themselves."""
        from celeriac.schedule import checks  # noqa: F401
