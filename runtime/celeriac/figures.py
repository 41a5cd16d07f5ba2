"""Figures of tasks, for metrics: what is counted, and when a task was sent.

Nothing is counted, and no message has a header more, unless somebody may ask (``CELERIAC_METRICS_TOKEN``).
"""

import os
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

from celery import signals

# A header of a message, beside Celery's own: Unix time in seconds.
SENT_AT = "celeriac-sent-at"

# Upper bounds in seconds, of what a task may take and wait; the last is no bound.
BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0)


@dataclass
class Histogram:
    """How many values were at most how large.

    Attributes:
        counts: by bucket, each without those below; one more than there are `BUCKETS`.
        sum: of all values.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    sum: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count a value."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


@dataclass
class TaskFigures:
    """Of one task.

    Attributes:
        ended: how often, by state.
        runs: how long it ran, in seconds.
        waits: how long it waited, in seconds, until it started.
    """

    ended: dict[str, int] = field(default_factory=dict)
    runs: Histogram = field(default_factory=Histogram)
    waits: Histogram = field(default_factory=Histogram)

    def count(self, state: str) -> None:
        """Count an end."""
        self.ended[state] = self.ended.get(state, 0) + 1


def is_wanted() -> bool:
    """Return whether somebody may ask for figures."""
    return bool(os.environ.get("CELERIAC_METRICS_TOKEN"))


def connect() -> None:
    """Have every task that this process sends say when it was sent."""
    if is_wanted():
        signals.before_task_publish.connect(_sent, dispatch_uid="celeriac.figures")


def _sent(headers: dict[str, Any], **_: Any) -> None:
    headers[SENT_AT] = time.time()  # in place of that of an attempt before this one
