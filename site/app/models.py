"""What the site keeps."""

from django.db import models
from django.db.models import F


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


class DailyReport(models.Model):
    """What happened on the site in a day."""

    day = models.DateField(unique=True)
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """The newest first."""

        ordering = ("-day",)

    def __str__(self) -> str:
        """Return the day."""
        return str(self.day)
