"""What the journal keeps."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone


class Dispatch(models.Model):
    """A task that was sent, and how far it has come. There is one row for each task id.

    Whatever is sent under an id that is there already takes the row over: a retry, a task that
    replaces itself, a new one under the same id. All in the row is of that last publication. What a
    task returned is the result backend's to say, under the same id.
    """

    task_id = models.CharField(max_length=255)
    # Which publication under this id it was: random, and in the message.
    publication = models.CharField(max_length=32, blank=True)
    retries = models.PositiveIntegerField(default=0)
    name = models.CharField(max_length=255)
    # As kombu's JSON has them, dates and all; null where they are not to be kept.
    args = models.TextField(null=True)
    kwargs = models.TextField(null=True)
    queue = models.CharField(max_length=255, blank=True)  # empty: it cannot be told
    priority = models.PositiveSmallIntegerField(null=True)
    eta = models.DateTimeField(null=True)
    expires = models.DateTimeField(null=True)
    parent = models.CharField(max_length=255, blank=True)  # the id of the task that it repeats
    sent_by = models.CharField(max_length=150, blank=True)
    # The name of the entry of the schedule that sent it. Null in rows of a release that does not know the column, and
    # writes until it is replaced.
    entry = models.CharField(max_length=255, blank=True, null=True)
    sent_at = models.DateTimeField(default=timezone.now)

    # The last start, by whom, and how many there were: more than one where the broker gave the
    # message out again.
    started_at = models.DateTimeField(null=True)
    worker = models.CharField(max_length=255, blank=True)
    starts = models.PositiveIntegerField(default=0)
    # By its time limit it has ended by then; null where it has none.
    overdue_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        """The newest first, as in every list of them."""

        ordering = ("-pk",)
        verbose_name_plural = "dispatches"
        # No `unique=True`, no `db_index=True`: on PostgreSQL each would bring a second index.
        constraints = (models.UniqueConstraint(fields=("task_id",), name="celeriac_ledger_task_id"),)
        indexes = (
            models.Index(fields=("name", "-id"), name="celeriac_ledger_name"),
            models.Index(fields=("sent_at",), name="celeriac_ledger_sent_at"),
            models.Index(fields=("overdue_at",), condition=Q(ended_at=None), name="celeriac_ledger_open"),
            models.Index(fields=("starts",), condition=Q(starts__gt=1), name="celeriac_ledger_doubled"),
            models.Index(fields=("parent",), condition=~Q(parent=""), name="celeriac_ledger_parent"),
            models.Index(fields=("entry", "-id"), condition=Q(entry__gt=""), name="celeriac_ledger_entry"),
        )

    def __str__(self) -> str:
        """Return name and id, as Celery's log has them."""
        return f"{self.name}[{self.task_id}]"


# What is counted, by the names that it has in the database.
NOT_NOTED = "not_noted"
NOT_MARKED = "not_marked"


class Counter(models.Model):
    """How often something happened since the journal is there; see `celeriac.ledger.report`."""

    name = models.CharField(max_length=40, primary_key=True)
    value = models.BigIntegerField(default=0)
    changed_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        """Return name and value."""
        return f"{self.name} {self.value}"

    @classmethod
    def add(cls, name: str, number: int = 1) -> None:
        """Count something."""
        if not number:
            return
        cls.objects.get_or_create(name=name)
        cls.objects.filter(name=name).update(value=F("value") + number, changed_at=timezone.now())
