"""A scheduler with a model of its own; it notes what it sends before it does."""

from typing import Any

from celery import current_app
from django_celery_beat import schedulers

from plans.models import Plan, PlanChanges, Sent


class PlanEntry(schedulers.ModelEntry):
    """A plan, under a name that is not the row's."""

    def __init__(self, model: Plan, app: Any = None) -> None:
        self.app = app or current_app._get_current_object()
        self.model = model
        self.name = f"{model.name}_{model.pk}"
        self.task = "celeriac.ping"
        self.schedule = model.schedule
        self.args, self.kwargs = [], model.kwargs
        self.options = {"headers": {}}
        self.total_run_count = model.total_run_count
        self.last_run_at = model.last_run_at = model.last_run_at or self._default_now()

    def is_due(self) -> Any:
        """Say whether it is due; a plan knows no beginning and no end."""
        return self.schedule.is_due(self.last_run_at)


class PlanScheduler(schedulers.DatabaseScheduler):
    """Sends the plans."""

    Entry = PlanEntry
    Model = Plan
    Changes = PlanChanges

    def enabled_models(self) -> list[Plan]:
        """Return the plans that are to be sent."""
        return list(self.Model.objects.enabled())

    def apply_async(self, entry: PlanEntry, *args: Any, **kwargs: Any) -> Any:
        """Send one, and note with which options."""
        Sent.objects.create(options=entry.options)
        return super().apply_async(entry, *args, **kwargs)
