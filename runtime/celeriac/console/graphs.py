"""The graphs of the console: the last day, as SVG that the server draws.

An SVG is stretched to the width of its page, so it holds shapes only; words and numbers stand around it.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from celeriac import clock
from celeriac.console.models import Sample
from celeriac.console.samples import FAILED, QUEUE, SECONDS_MAX, SECONDS_MEAN, SUCCEEDED

HOURS = 24
SLOT = timedelta(minutes=10)
SLOTS = timedelta(hours=HOURS) // SLOT

# The drawing's own units, which the page stretches.
WIDTH, HEIGHT = 720, 160

# One value a slot; None where nothing was measured.
Values = Sequence[float | None]


@dataclass(frozen=True)
class Series:
    """One line, or one kind of bars, of a graph.

    Attributes:
        label: what it is.
        style: the class that gives it a colour.
        values: one for each slot.
        path: the shape, in the language of SVG's `d`.
    """

    label: str | Promise
    style: str
    values: Values
    path: str


@dataclass(frozen=True)
class Slot:
    """Ten minutes, which say their numbers to a pointer that rests there."""

    x: str
    width: str
    text: str


@dataclass(frozen=True)
class Graph:
    """One graph, ready for the template.

    Attributes:
        slug: its name in addresses and ids.
        title: what it shows, with the unit.
        summary: the one number that matters most, in words.
        shape: "line" or "box", the class of what is drawn.
        series: what is drawn.
        slots: the parts of the day that have something to say.
        top, middle: the values at the upper edge and half way up.
        hours: the labels under it, left to right.
        rows: of the table, an hour each, the last one first: the hour, then a number for each series, "" for none.
        width, height: of the drawing.
    """

    slug: str
    title: str | Promise
    summary: str
    shape: str
    series: list[Series]
    slots: list[Slot]
    top: str
    middle: str
    hours: list[datetime]
    rows: list[tuple[datetime, list[str]]]
    width: int = field(default=WIDTH)
    height: int = field(default=HEIGHT)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured at all."""
        return all(value is None for series in self.series for value in series.values)


def last_day(now: datetime | None = None) -> list[Graph]:
    """Return the graphs of the day that ends now, in one query."""
    end = _next_slot(now or clock.now())
    start = end - SLOTS * SLOT
    found = _by_series(Sample.objects.filter(minute__gte=clock.stored(start), minute__lt=clock.stored(end)), start)
    queues = sorted(name for name in found if name.startswith(QUEUE))
    return [
        _lines(
            "queue",
            _("Tasks waiting in a queue"),
            [(name.removeprefix(QUEUE), f"tone-{number % 4}") for number, name in enumerate(queues)],
            [_folded(found[name], max) for name in queues],
            start,
        ),
        _bars(
            "ended",
            _("Tasks per minute"),
            [(_("with a result"), "tone-0"), (_("with an error"), "tone-bad")],
            [_folded(found[SUCCEEDED], _mean), _folded(found[FAILED], _mean)],
            start,
        ),
        _lines(
            "seconds",
            _("Run time, seconds"),
            [(_("longest"), "tone-1"), (_("mean"), "tone-0")],
            [_folded(found[SECONDS_MAX], max), _folded(found[SECONDS_MEAN], _mean)],
            start,
        ),
    ]


def _next_slot(now: datetime) -> datetime:
    """Return the end of the ten minutes that now lies in."""
    minute = now.replace(second=0, microsecond=0)
    return minute - timedelta(minutes=minute.minute % 10) + SLOT


def _by_series(samples: "QuerySet[Sample]", start: datetime) -> dict[str, dict[int, list[float]]]:
    """Return the numbers of each series by the number of their slot."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for series, minute, value in samples.values_list("series", "minute", "value"):
        found[series][(clock.aware(minute) - start) // SLOT].append(value)
    return found


def _folded(by_slot: dict[int, list[float]], fold: Callable[[list[float]], float]) -> Values:
    """Return one value for each slot."""
    return [fold(by_slot[number]) if number in by_slot else None for number in range(SLOTS)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


Labels = Sequence[tuple[str | Promise, str]]


def _lines(slug: str, title: str | Promise, labels: Labels, columns: Sequence[Values], start: datetime) -> Graph:
    top = _round_top(value for values in columns for value in values)
    paths = [_steps(values, top) for values in columns]
    return _graph(slug, title, "line", labels, columns, paths, top, start)


def _bars(slug: str, title: str | Promise, labels: Labels, columns: Sequence[Values], start: datetime) -> Graph:
    """Stack the columns, the first at the bottom."""
    heights = [sum(value or 0 for value in values) for values in zip(*columns, strict=True)]
    top = _round_top(heights)
    paths, below = [], [0.0] * SLOTS
    for values in columns:
        paths.append(_boxes(values, below, top))
        below = [low + (value or 0) for low, value in zip(below, values, strict=True)]
    return _graph(slug, title, "box", labels, columns, paths, top, start)


def _round_top(values: Iterable[float | None]) -> float:
    """Return the next round number at or above the greatest value, of which the half is round too."""
    greatest = max((value for value in values if value is not None), default=0)
    if greatest <= 1:
        return 1
    power: float = 10 ** math.floor(math.log10(greatest))
    return next(step * power for step in (1, 1.6, 2, 3, 4, 6, 8, 10) if step * power >= greatest)


def _x(number: float) -> str:
    return f"{number * WIDTH / SLOTS:.1f}"


def _y(value: float, top: float) -> str:
    # One unit is left at each edge, or half of the line would be cut off.
    return f"{HEIGHT - 1 - value / top * (HEIGHT - 2):.1f}"


def _steps(values: Values, top: float) -> str:
    """Return a line of steps, which breaks where nothing was measured."""
    path, pen_is_down = [], False
    for number, value in enumerate(values):
        if value is not None:
            path.append(f"V{_y(value, top)}" if pen_is_down else f"M{_x(number)} {_y(value, top)}")
            path.append(f"H{_x(number + 1)}")
        pen_is_down = value is not None
    return "".join(path)


def _boxes(values: Values, below: Sequence[float], top: float) -> str:
    """Return a box for each value, on those below it."""
    return "".join(
        f"M{_x(number + 0.1)} {_y(low, top)}V{_y(low + value, top)}H{_x(number + 0.9)}V{_y(low, top)}Z"
        for number, (value, low) in enumerate(zip(values, below, strict=True))
        if value
    )


def _graph(
    slug: str,
    title: str | Promise,
    shape: str,
    labels: Labels,
    columns: Sequence[Values],
    paths: Sequence[str],
    top: float,
    start: datetime,
) -> Graph:
    series = [
        Series(label, style, values, path) for (label, style), values, path in zip(labels, columns, paths, strict=True)
    ]
    slots = [
        Slot(_x(number), _x(1), f"{_clock(start + number * SLOT)} · {_words(series, number)}")
        for number in range(SLOTS)
        if any(each.values[number] is not None for each in series)
    ]
    latest = next((n for n in reversed(range(SLOTS)) if any(each.values[n] is not None for each in series)), None)
    an_hour = SLOTS // HOURS
    return Graph(
        slug,
        title,
        "" if latest is None else _words(series, latest),
        shape,
        series,
        slots,
        _mark(top),
        _mark(top / 2),
        [timezone.localtime(start + hours * timedelta(hours=1)) for hours in range(0, HOURS + 1, HOURS // 4)],
        [
            (
                timezone.localtime(start + hour * timedelta(hours=1)),
                [_greatest(each.values[hour * an_hour : (hour + 1) * an_hour]) for each in series],
            )
            for hour in reversed(range(HOURS))
        ],
    )


def _words(series: Sequence[Series], number: int) -> str:
    """Return what was measured in a slot, such as "celery 12"."""
    return ", ".join(f"{each.label} {_number(value)}" for each in series if (value := each.values[number]) is not None)


def _greatest(values: Values) -> str:
    known = [value for value in values if value is not None]
    return _number(max(known)) if known else ""


def _number(value: float) -> str:
    """Return a number for a person, with two digits where it is small."""
    if value >= 10 or value == int(value):
        return number_format(round(value), 0, force_grouping=True)
    digits = 2 if value < 1 else 1
    return number_format(round(value, digits), digits)  # which would cut it


def _mark(value: float) -> str:
    """Return a number of the scale, which is round."""
    return number_format(int(value) if value == int(value) else value, force_grouping=True)


def _clock(moment: datetime) -> str:
    return f"{timezone.localtime(moment):%H:%M}"
