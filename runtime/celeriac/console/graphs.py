"""The graphs of the console: the last day, as far as it was measured, as SVG that the server draws.

An SVG is stretched to the width of its page, so it holds shapes only; words and numbers stand around it.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from celeriac import clock
from celeriac.console.models import Sample
from celeriac.console.samples import FAILED, QUEUE, SECONDS_MAX, SECONDS_MEAN, SUCCEEDED

HOUR = timedelta(hours=1)
SLOT = timedelta(minutes=10)
SLOTS_AN_HOUR = HOUR // SLOT
SLOTS = 24 * SLOTS_AN_HOUR  # at most

# Of more series than that it is said which are not 0, and the key has the numbers.
FEW = 4
# The styles of lines that can be told apart: four colours, each solid, dashed and dotted.
STYLES = [f"tone-{tone} dash-{dash}" for dash in range(3) for tone in range(4)]

# The drawing's own units, which the page stretches.
WIDTH, HEIGHT = 720, 160

# One value a slot; None where nothing was measured.
Values = Sequence[float | None]


@dataclass(frozen=True)
class Axis:
    """The time that the graphs show.

    Attributes:
        start: when it begins.
        slots: how many there are.
        since: when the first number was measured, None where that was before the start, or never.
    """

    start: datetime
    slots: int
    since: datetime | None

    def at(self, slot: float) -> datetime:
        """Return when a slot begins."""
        return self.start + slot * SLOT

    def x(self, slot: float) -> str:
        """Return where a slot begins in the drawing."""
        return f"{slot * WIDTH / self.slots:.1f}"


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

    @property
    def last(self) -> str:
        """The last number that was measured, "" for none."""
        return next((_number(value) for value in reversed(self.values) if value is not None), "")


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
        since: when the first number was measured, None where that was before the graph begins.
        left_out: how many series there are that are not shown, because they were the lowest.
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
    since: datetime | None
    left_out: int = 0
    width: int = field(default=WIDTH)
    height: int = field(default=HEIGHT)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured at all."""
        return all(value is None for series in self.series for value in series.values)

    @property
    def is_crowded(self) -> bool:
        """Whether the key has the numbers, because there are too many for a sentence."""
        return len(self.series) > FEW


def last_day(now: datetime | None = None) -> list[Graph]:
    """Return the graphs of the day that ends now, or of what was measured of it, in one query."""
    end = _next_slot(now or clock.now())
    samples = Sample.objects.filter(minute__gte=clock.stored(end - SLOTS * SLOT), minute__lt=clock.stored(end))
    numbers = [*samples.values_list("series", "minute", "value")]
    axis = _axis(end, min((clock.aware(minute) for _series, minute, _value in numbers), default=None))
    found = _by_series(numbers, axis)
    queues = [name for name in found if name.startswith(QUEUE)]
    fullest = sorted(queues, key=lambda name: (-max(map(max, found[name].values())), name))[: len(STYLES)]
    shown = sorted(fullest)
    queue = _lines(
        "queue",
        _("Tasks waiting in a queue"),
        [(name.removeprefix(QUEUE), style) for name, style in zip(shown, STYLES, strict=False)],
        [_folded(found[name], max, axis) for name in shown],
        axis,
    )
    return [
        replace(queue, left_out=len(queues) - len(shown)),
        _bars(
            "ended",
            _("Tasks per minute"),
            [(_("with a result"), "tone-0"), (_("with an error"), "tone-bad")],
            [_folded(found[SUCCEEDED], _mean, axis), _folded(found[FAILED], _mean, axis)],
            axis,
        ),
        _lines(
            "seconds",
            _("Run time, seconds"),
            [(_("longest"), "tone-1"), (_("mean"), "tone-0")],
            [_folded(found[SECONDS_MAX], max, axis), _folded(found[SECONDS_MEAN], _mean, axis)],
            axis,
        ),
    ]


def _next_slot(now: datetime) -> datetime:
    """Return the end of the ten minutes that now lies in."""
    minute = now.replace(second=0, microsecond=0)
    return minute - timedelta(minutes=minute.minute % 10) + SLOT


def _axis(end: datetime, first: datetime | None) -> Axis:
    """Return the time from the first number on: a flat line before it would say that nothing ran. An hour at least."""
    measured = SLOTS if first is None else -((first - end) // SLOT)
    slots = min(max(measured, SLOTS_AN_HOUR), SLOTS)
    return Axis(end - slots * SLOT, slots, first if measured < SLOTS else None)


def _by_series(numbers: Iterable[tuple[str, datetime, float]], axis: Axis) -> dict[str, dict[int, list[float]]]:
    """Return the numbers of each series by the number of their slot."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for series, minute, value in numbers:
        found[series][(clock.aware(minute) - axis.start) // SLOT].append(value)
    return found


def _folded(by_slot: dict[int, list[float]], fold: Callable[[list[float]], float], axis: Axis) -> Values:
    """Return one value for each slot."""
    return [fold(by_slot[number]) if number in by_slot else None for number in range(axis.slots)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


Labels = Sequence[tuple[str | Promise, str]]


def _lines(slug: str, title: str | Promise, labels: Labels, columns: Sequence[Values], axis: Axis) -> Graph:
    top = _round_top(value for values in columns for value in values)
    paths = [_steps(values, top, axis) for values in columns]
    return _graph(slug, title, "line", labels, columns, paths, top, axis)


def _bars(slug: str, title: str | Promise, labels: Labels, columns: Sequence[Values], axis: Axis) -> Graph:
    """Stack the columns, the first at the bottom."""
    heights = [sum(value or 0 for value in values) for values in zip(*columns, strict=True)]
    top = _round_top(heights)
    paths, below = [], [0.0] * axis.slots
    for values in columns:
        paths.append(_boxes(values, below, top, axis))
        below = [low + (value or 0) for low, value in zip(below, values, strict=True)]
    return _graph(slug, title, "box", labels, columns, paths, top, axis)


def _round_top(values: Iterable[float | None]) -> float:
    """Return the next round number at or above the greatest value, of which the half is round too."""
    greatest = max((value for value in values if value is not None), default=0)
    if greatest <= 1:
        return 1
    power: float = 10 ** math.floor(math.log10(greatest))
    return next(step * power for step in (1, 1.6, 2, 3, 4, 6, 8, 10) if step * power >= greatest)


def _y(value: float, top: float) -> str:
    # One unit is left at each edge, or half of the line would be cut off.
    return f"{HEIGHT - 1 - value / top * (HEIGHT - 2):.1f}"


def _steps(values: Values, top: float, axis: Axis) -> str:
    """Return a line of steps, which breaks where nothing was measured."""
    path, pen_is_down = [], False
    for number, value in enumerate(values):
        if value is not None:
            path.append(f"V{_y(value, top)}" if pen_is_down else f"M{axis.x(number)} {_y(value, top)}")
            path.append(f"H{axis.x(number + 1)}")
        pen_is_down = value is not None
    return "".join(path)


def _boxes(values: Values, below: Sequence[float], top: float, axis: Axis) -> str:
    """Return a box for each value, on those below it."""
    return "".join(
        f"M{axis.x(number + 0.1)} {_y(low, top)}V{_y(low + value, top)}H{axis.x(number + 0.9)}V{_y(low, top)}Z"
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
    axis: Axis,
) -> Graph:
    series = [
        Series(label, style, values, path) for (label, style), values, path in zip(labels, columns, paths, strict=True)
    ]
    measured = [slot for slot in range(axis.slots) if any(each.values[slot] is not None for each in series)]
    return Graph(
        slug,
        title,
        _words(series, measured[-1]) if measured else "",
        shape,
        series,
        [Slot(axis.x(slot), axis.x(1), f"{_clock(axis.at(slot))} · {_words(series, slot)}") for slot in measured],
        _mark(top),
        _mark(top / 2),
        [timezone.localtime(axis.at(quarter * axis.slots / 4)) for quarter in range(5)],
        [*_rows(series, axis)],
        axis.since,
    )


def _rows(series: Sequence[Series], axis: Axis) -> Iterator[tuple[datetime, list[str]]]:
    """Yield the hours, the last one first; the first one may be a part."""
    for until in range(axis.slots, 0, -SLOTS_AN_HOUR):
        begin = max(0, until - SLOTS_AN_HOUR)
        yield timezone.localtime(axis.at(begin)), [_greatest(each.values[begin:until]) for each in series]


def _words(series: Sequence[Series], number: int) -> str:
    """Return what was measured in a slot, such as "celery 12"; of many only what is not 0."""
    known = [(each.label, value) for each in series if (value := each.values[number]) is not None]
    if len(series) > FEW:
        known = [(label, value) for label, value in known if value]
    return ", ".join(f"{label} {_number(value)}" for label, value in known) or "0"


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
