"""One table."""

from django.db import models


class Note(models.Model):
    """A line of text."""

    text = models.CharField(max_length=80)
