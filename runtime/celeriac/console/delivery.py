"""What the journal has counted, in words for the console."""

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from celeriac.ledger.models import NOT_MARKED, NOT_NOTED
from celeriac.ledger.report import never_ended, report

# Those who are named; there may be thousands.
NAMED = 10

LABELS = {
    "doubled": _("Started a second time"),
    NOT_NOTED: _("Sent without a row in the journal"),
    NOT_MARKED: _("Starts and ends that could not be noted"),
    "never_ended": _("Started and never ended"),
}


@dataclass(frozen=True)
class Delivery:
    """What became of what was sent.

    Attributes:
        numbers: each with what it counts.
        never_ended: ids of runs that started and should have ended by their time limits, not more than `NAMED`.
        late: names of entries of the schedule that are due and were not sent.
    """

    numbers: list[tuple[str | Promise, int]]
    never_ended: list[str]
    late: list[str]


def delivery() -> Delivery:
    """Return the numbers since the journal is there, and what is amiss now."""
    found = report()
    return Delivery(
        [(label, found[name]) for name, label in LABELS.items()],
        [*never_ended().order_by("pk").values_list("task_id", flat=True)[:NAMED]],
        found["beat_is_late"],
    )
