"""What the console keeps."""

from django.conf import settings
from django.db import models
from django.utils import timezone


class Revocation(models.Model):
    """A task that must not start any more. Workers read these before they consume (`celeriac.console.revocations`)."""

    task_id = models.CharField(max_length=255, unique=True)
    terminate = models.BooleanField(default=False)
    revoked_by = models.CharField(max_length=150, blank=True)
    revoked_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        """Return the id of the task."""
        return self.task_id


class ApiToken(models.Model):
    """What a program logs in to the API with (`celeriac.console.tokens`); only its hash is kept."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    purpose = models.CharField(max_length=200)
    digest = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)  # none: it is good until it is deleted

    class Meta:
        """The newest first, and by the name that people know."""

        ordering = ("-pk",)
        verbose_name = "API token"

    def __str__(self) -> str:
        """Return whose it is, and what for."""
        return f"{self.user}: {self.purpose}"


class Sample(models.Model):
    """One number of one minute; the graphs are drawn from these (`celeriac.console.samples`)."""

    minute = models.DateTimeField()
    series = models.CharField(max_length=255)
    value = models.FloatField()

    class Meta:
        """One number a minute and series: a task that is delivered twice changes nothing."""

        constraints = (models.UniqueConstraint(fields=("minute", "series"), name="celeriac_sample_once_a_minute"),)

    def __str__(self) -> str:
        """Return what was measured and when."""
        return f"{self.series} {self.minute:%F %R} {self.value:g}"
