"""The app that a project adds."""

from django.apps import AppConfig


class LedgerConfig(AppConfig):
    """Records what any process of the project sends, and its workers what becomes of it.

    Both hang on Celery's signals, not on how the process was started: a shell, a management command
    and ``celery -A project worker`` take part like the units of a deployed site.
    """

    name = "celeriac.ledger"
    label = "celeriac_ledger"
    verbose_name = "Journal of tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect to the signals, once there are models."""
        import celeriac.tasks  # noqa: F401  (the ping, which says that it is not to be recorded)
        from celeriac.ledger import publishing, settings, worker

        if settings.enabled():
            publishing.connect()
            worker.connect()
