r"""The one line in which beat says how it is: STATUS, or ``systemctl show -p StatusText``.

The format, of which only the words between the values may ever change together with this module::

    last tick 1790000000 (2026-09-21T14:13:20Z); 4 entries; next due in 3 s
    last tick 1790000000 (2026-09-21T14:13:20Z); 0 entries; nothing due
    last tick 1790000000 (2026-09-21T14:13:20Z); 4 entries; next due in 3 s; 1 faulty: ["sunrise"]
    standby, another beat holds the lease
    standby, the database does not answer

A check that has only the text needs only ``^last tick (\d+) ``: the Unix time of the last tick in
seconds, of the one beat that sends. It ticks at least every ``beat_max_loop_interval`` (5 s with
the DatabaseScheduler). A beat on standby sends nothing. Faulty entries are never sent; why not is
in beat's log. The first few are named, in ASCII JSON: a name may hold anything, and a line is a
line.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

# So many faulty entries are named; all are counted.
NAMED = 5


@dataclass(frozen=True)
class BeatStatus:
    """How beat was at its last tick.

    Attributes:
        last_tick: when it was, in whole seconds of Unix time.
        entries: how many enabled entries the schedule holds.
        next_due: in how many seconds the next of them is due, 0 for now, None for never.
        faulty: how many enabled entries cannot be sent.
        named: the names of the first of these, at most `NAMED`.
    """

    last_tick: int
    entries: int
    next_due: int | None
    faulty: int = 0
    named: tuple[str, ...] = ()


class Standby(Enum):
    """Why a beat sends nothing, in the words of the line."""

    ANOTHER_LEADS = "standby, another beat holds the lease"
    NO_DATABASE = "standby, the database does not answer"


def format_status(status: BeatStatus | Standby) -> str:
    """Return the line for ``STATUS=``."""
    if isinstance(status, Standby):
        return status.value
    moment = datetime.fromtimestamp(status.last_tick, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    due = "nothing due" if status.next_due is None else f"next due in {status.next_due} s"
    faulty = f"; {status.faulty} faulty: {json.dumps(status.named)}" if status.faulty else ""
    return f"last tick {status.last_tick} ({moment}); {status.entries} entries; {due}{faulty}"
