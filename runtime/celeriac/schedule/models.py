"""What the code says of the schedule."""

from django.db import models


class ScheduleDefault(models.Model):
    """An entry of the schedule as the code last had it; what differs in its row was changed there."""

    name = models.CharField(max_length=200, unique=True)
    definition = models.JSONField()
    removed = models.BooleanField(default=False)  # the code has it no more
    disabled = models.BooleanField(default=False)  # for that reason, and not by an operator

    def __str__(self) -> str:
        """Return the name of the entry."""
        return self.name
