"""Forgets what is old, and what is more than is to be kept, in batches that lock little."""

from datetime import datetime

from django.db.models import Q
from django.utils import timezone

from celeriac import pruning
from celeriac.ledger import settings
from celeriac.ledger.models import Dispatch


def prune(now: datetime | None = None) -> int:
    """Delete rows, of which some may be left to the next call.

    What waits for a time to come stays, and so does, over the number, what has not ended.

    Args:
        now: the time, for tests.

    Returns:
        How many were deleted.
    """
    before = (now or timezone.now()) - settings.keep()
    old = Dispatch.objects.filter(Q(eta=None) | Q(eta__lt=before), sent_at__lt=before)
    deleted = pruning.delete(old.order_by("sent_at"))
    newest = Dispatch.objects.order_by("-pk").values_list("pk", flat=True)
    for pk in newest[settings.keep_rows() : settings.keep_rows() + 1]:
        too_many = Dispatch.objects.filter(pk__lte=pk).exclude(ended_at=None)
        deleted += pruning.delete(too_many.order_by("pk"))
    return deleted
