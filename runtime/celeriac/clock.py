"""Times with a zone, whatever the project's ``USE_TZ``.

With ``USE_TZ = False`` Django's database has times without a zone, meant in ``TIME_ZONE``; one that
has a zone can be compared with none of them, and SQLite refuses it. So here a time has a zone: what
comes from the database goes through `aware`, what goes there through `stored`.
https://docs.djangoproject.com/en/5.2/topics/i18n/timezones/#naive-and-aware-datetime-objects
"""

from datetime import UTC, datetime
from typing import TypeVar

from django.conf import settings
from django.utils import timezone

_Moment = TypeVar("_Moment", datetime, datetime | None)


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def aware(moment: _Moment) -> _Moment:
    """Return a time of the database with its zone; None and one that has a zone as they are."""
    if moment is None or timezone.is_aware(moment):
        return moment
    zoned: datetime = timezone.make_aware(moment, timezone.get_default_timezone())
    return zoned


def stored(moment: _Moment) -> _Moment:
    """Return a time as a field of the database takes it: without a zone where ``USE_TZ`` is off."""
    if moment is None or settings.USE_TZ or timezone.is_naive(moment):
        return moment
    bare: datetime = timezone.make_naive(moment, timezone.get_default_timezone())
    return bare
