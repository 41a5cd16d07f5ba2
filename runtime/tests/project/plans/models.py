"""Plans, when they were changed, and what was sent of them."""

from datetime import datetime
from typing import Any

from celery.schedules import schedule
from django.db import models
from django.db.models.signals import post_save
from django.utils import timezone


class Plans(models.Manager["Plan"]):
    """What beat asks the table for."""

    def enabled(self) -> models.QuerySet["Plan"]:
        """Return the plans that are to be sent."""
        return self.filter(enabled=True)


class Plan(models.Model):
    """A periodic task. It has no more of django-celery-beat's fields than beat reads in the project's entry."""

    name = models.CharField(max_length=80)
    seconds = models.IntegerField()
    kwargs = models.JSONField(default=dict)
    enabled = models.BooleanField(default=True)
    last_run_at = models.DateTimeField(null=True)
    total_run_count = models.IntegerField(default=0)
    no_changes = False

    objects = Plans()

    @property
    def schedule(self) -> schedule:
        """Return when it is due."""
        return schedule(self.seconds)


class PlanChanges(models.Model):
    """When the plans were changed: one row, and none before the first plan."""

    last_update = models.DateTimeField()

    @classmethod
    def changed(cls, instance: Plan, **_: Any) -> None:
        """Note a change that is none of beat's own."""
        if not instance.no_changes:
            cls.objects.update_or_create(pk=1, defaults={"last_update": timezone.now()})

    @classmethod
    def last_change(cls) -> datetime | None:
        """Return when it was."""
        row = cls.objects.filter(pk=1).first()
        return row and row.last_update


class Sent(models.Model):
    """With which options a plan was sent."""

    options = models.JSONField()


post_save.connect(PlanChanges.changed, sender=Plan)
