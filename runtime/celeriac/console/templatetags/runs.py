"""How runs are written on pages: arguments, results, durations, states."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django import template
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import Truncator
from django.utils.translation import gettext as _

from celeriac import clock
from celeriac.console import states

# Django's check of templates imports this where the journal may be missing, too.
if TYPE_CHECKING:
    from celeriac.console.runs import Run

register = template.Library()

# As many characters of arguments, results and errors stand in a list.
SHORT = 60


@register.filter
def state(name: str) -> states.State:
    """Return what is known of a state."""
    return states.of(name)


@register.filter
def pretty(value: Any) -> str:
    """Return a value as JSON, a long one in lines; what JSON cannot say (a date, a UUID) as text."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHORT else json.dumps(value, ensure_ascii=False, indent=2, default=str)


@register.filter
def short(value: Any) -> str:
    """Return a value as JSON in one line, cut where it is long."""
    return Truncator(json.dumps(value, ensure_ascii=False, default=str)).chars(SHORT)


@register.filter
def call(run: "Run") -> str:
    """Return the arguments of a run as they would stand in a call, cut where they are long."""
    args: Sequence[Any] = run.args or ()
    kwargs: Mapping[str, Any] = run.kwargs or {}
    parts = [json.dumps(value, ensure_ascii=False, default=str) for value in args]
    parts += [f"{name}={json.dumps(value, ensure_ascii=False, default=str)}" for name, value in kwargs.items()]
    return Truncator(", ".join(parts)).chars(SHORT)


@register.filter
def breakable(name: str) -> SafeString:
    """Return a dotted name that a narrow column may break behind a dot or an underscore."""
    parts = re.split(r"(?<=[._])", name)
    return format_html_join(mark_safe("<wbr>"), "{}", ((part,) for part in parts))


@register.filter
def count_all(lists: Mapping[str, Sequence[Any]]) -> int:
    """Return how many there are in all of these lists."""
    return sum(len(each) for each in lists.values())


@register.filter
def of(found: Mapping[str, str], name: str) -> str:
    """Return what there is under a name, "" for nothing."""
    return found.get(name, "")


@register.filter
def host(worker: str) -> str:
    """Return where a worker runs: what stands behind the @ of its name."""
    return worker.rpartition("@")[2]


@register.filter
def cut(text: str) -> str:
    """Return the beginning of a text."""
    return Truncator(text).chars(SHORT)


@register.filter
def duration(seconds: float | None) -> str:
    """Return a time that something took: 40 ms, 5.1 s, 2 min 5 s."""
    if seconds is None:
        return ""
    if seconds < 1:
        return _("%s ms") % number_format(round(seconds * 1000), 0)
    if seconds < 60:
        return _("%s s") % number_format(round(seconds, 1), 1)
    return _("%(minutes)s min %(seconds)s s") % {"minutes": int(seconds) // 60, "seconds": int(seconds) % 60}


@register.filter
def moment(value: datetime | None) -> SafeString | str:
    """Return a time of today as 14:05:09, any other with its date, for machines too."""
    if value is None:
        return ""
    value = clock.aware(value)
    local = timezone.localtime(value)
    time = f"{local:%H:%M:%S}"
    text = time if local.date() == timezone.localdate(clock.now()) else f"{date_format(local, 'j E')} {time}"
    return format_html('<time datetime="{}">{}</time>', value.isoformat(), text)


@register.filter
def aware(value: datetime) -> datetime:
    """Return a time of the database with its zone, for machines."""
    return clock.aware(value)
