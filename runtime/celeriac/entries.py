"""Rows of django-celery-beat's schedule, each for itself: one that cannot be sent stops no other.

The admin and the shell let rows in that no scheduler can read: a solar event without `ephem`, the
30th of February, arguments that are no JSON, an interval of nothing. The stock scheduler ends at
the first of these, or drops it without its name, or sends it without a pause.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import Error
from django.db.models.signals import pre_save
from kombu.utils import json

from celeriac import clock

# The times of a row.
_TIMES = ("start_time", "expires", "last_run_at", "date_changed")

# What the fields with JSON must hold, and what an empty one stands for.
_SHAPES = {"args": list, "kwargs": dict, "headers": dict}


def enabled(together: Callable[[], Iterable[Any]], model: Any) -> list[Any]:
    """Return the enabled rows, with their schedules unless one of these cannot be read.

    A time zone that this host does not know is an error to whoever asks for all crontabs at once.

    Args:
        together: a function that returns the rows with their schedules.
        model: of the rows.

    Raises:
        django.db.Error: the database does not answer.
    """
    try:
        return list(together())
    except Error:
        raise
    except Exception:
        return list(model.objects.filter(enabled=True))


def schedule(row: Any) -> Any:
    """Return the schedule of a row; a time of ``USE_TZ = False`` in it is one of ``TIME_ZONE``.

    The library takes it for one of UTC.
    """
    if row.clocked is None:
        return row.schedule
    from django_celery_beat.clockedschedule import clocked

    return clocked(clock.aware(row.clocked.clocked_time))


class Zoned:
    """What goes before an entry of beat, so that it counts right where ``USE_TZ`` is off.

    The stock entry compares times that have a zone with the row's, which have none, or takes those
    for UTC. Here the entry's copy of the row has times with a zone, and they are written without.
    """

    options: dict[str, Any]

    def __init__(self, model: Any, app: Any = None) -> None:
        for field in _times(model):
            setattr(model, field, clock.aware(getattr(model, field)))
        super().__init__(model, app=app)  # type: ignore[call-arg]
        # So a run knows its entry: a header since django-celery-beat 2.8, only a property before.
        self.options.setdefault("headers", {}).setdefault("periodic_task_name", model.name)
        if getattr(model, "clocked", None) is not None:
            self.schedule = schedule(model)
        if not settings.USE_TZ:
            pre_save.connect(_without_zone, sender=type(model), dispatch_uid="celeriac.entries")


def _without_zone(instance: Any, **_: Any) -> None:
    """Let a row be written as the database has its times."""
    for field in _times(instance):
        setattr(instance, field, clock.stored(getattr(instance, field)))


def _times(row: Any) -> list[str]:
    """Return which times a row has: a model of a project's own may have fewer."""
    return [field for field in _TIMES if hasattr(row, field)]


def validate(row: Any) -> None:
    """Refuse a row that beat cannot read, or not write again after a run.

    What the fields of a model of the project's own hold only the project knows.

    Raises:
        django.db.Error: the database does not answer.
        Exception: what is wrong, in words; of whatever kind the libraries have for it.
    """
    from django_celery_beat.models import PeriodicTask

    if isinstance(row, PeriodicTask):
        for field, shape in _SHAPES.items():
            text = getattr(row, field)
            if not isinstance(json.loads(text) if text else shape(), shape):
                raise ValueError(f"{field} is no JSON {'list' if shape is list else 'object'}: {text}")
        row.validate_unique(exclude={"name"})  # one schedule, and a clocked one once; no query
    every: timedelta | None = getattr(row.schedule, "run_every", None)
    if every is not None and every <= timedelta(0):
        raise ValueError("its interval is not above 0: it would be sent without a pause")


def fault(row: Any, next_due: Callable[[Any], Any]) -> str:
    """Return why beat cannot send a row, "" where it can.

    Args:
        row: of `PeriodicTask`.
        next_due: finds out when it is due, or cannot.

    Raises:
        django.db.Error: the database does not answer.
    """
    try:
        validate(row)
        next_due(row)
    except Error:
        raise
    except Exception as error:
        return describe(error)
    return ""


def describe(error: BaseException) -> str:
    """Return an error in words, as a line of a log or a cell of a table has it."""
    words = "; ".join(getattr(error, "messages", [])) or str(error)
    return " ".join(words.split()) or type(error).__name__
