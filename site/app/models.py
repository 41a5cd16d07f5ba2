"""What the site keeps."""

from django.conf import settings
from django.db import models
from django.db.models import F
from django.utils import timezone


class PostQuerySet(models.QuerySet["Post"]):
    """Posts, and what can be done to several at once."""

    def count_view(self) -> int:
        """Add one view to each of these posts; return how many there were.

        The database adds, not Python: with read, add and save two workers at the same moment would
        both write the same number, and one view would be lost.
        """
        return self.update(view_count=F("view_count") + 1)


class Post(models.Model):
    """A text that knows how often it was viewed."""

    title = models.CharField(max_length=200)
    text = models.TextField(blank=True)
    view_count = models.PositiveBigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PostQuerySet.as_manager()

    class Meta:
        """Oldest first, as on the home page."""

        ordering = ("pk",)

    def __str__(self) -> str:
        """Return the title."""
        return self.title


class Revocation(models.Model):
    """A task that must not start any more. Workers read these before they consume (`app.revocations`)."""

    task_id = models.CharField(max_length=255, unique=True)
    terminate = models.BooleanField(default=False)
    revoked_by = models.CharField(max_length=150, blank=True)
    revoked_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        """Return the id of the task."""
        return self.task_id


class DailyReport(models.Model):
    """What happened on the site in a day."""

    day = models.DateField(unique=True)
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """The youngest first."""

        ordering = ("-day",)

    def __str__(self) -> str:
        """Return the day."""
        return str(self.day)


class ScheduleDefault(models.Model):
    """An entry of the schedule as the code last had it; what differs in its row was changed there (`app.schedules`)."""

    name = models.CharField(max_length=200, unique=True)
    definition = models.JSONField()
    removed = models.BooleanField(default=False)  # the code has it no more
    disabled = models.BooleanField(default=False)  # for that reason, and not by an operator

    def __str__(self) -> str:
        """Return the name of the entry."""
        return self.name


class ApiToken(models.Model):
    """What a program logs in to the API with, in place of a person (`app.tokens`); only its hash is kept."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    purpose = models.CharField(max_length=200)
    digest = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)  # none: it is good until it is deleted

    class Meta:
        """The youngest first, and by the name that people know."""

        ordering = ("-pk",)
        verbose_name = "API token"

    def __str__(self) -> str:
        """Return whose it is, and what for."""
        return f"{self.user}: {self.purpose}"


class Sample(models.Model):
    """One number that was measured, for one minute; the graphs are drawn from these (`app.samples`)."""

    minute = models.DateTimeField()
    series = models.CharField(max_length=255)
    value = models.FloatField()

    class Meta:
        """One number a minute and series: a task that is delivered twice changes nothing."""

        constraints = (models.UniqueConstraint(fields=("minute", "series"), name="app_sample_once_a_minute"),)

    def __str__(self) -> str:
        """Return what was measured and when."""
        return f"{self.series} {self.minute:%F %R} {self.value:g}"
