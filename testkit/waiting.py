"""Wait for something to become true, and no longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# A computer that does other work too takes longer; how long is a figure and no fault.
GENEROUS = 10
# Seconds.
LONGEST_PAUSE = 1.0


def eventually(probe: Callable[[], T], seconds: float = 12, pause: float = 0.1, *, what: str = "") -> T:
    """Return the first answer of the probe that counts as true.

    Args:
        probe: asked again and again; what it raises is not caught.
        seconds: what it takes at most where nothing else is at work. After ten times as long its last answer is the
            failure of the test.
        pause: seconds between two questions, the first ones; then a tenth of what was waited so far, at most
            `LONGEST_PAUSE`: a question may be work for the computer that is waited for.
        what: is waited for, where the last answer does not say it.

    Raises:
        AssertionError: no answer counted as true.
    """
    began = time.monotonic()
    while not (answer := probe()):
        waited = time.monotonic() - began
        if waited > GENEROUS * seconds:
            expected = f"{what}: " if what else ""
            raise AssertionError(f"{expected}not within {GENEROUS * seconds} s; the last answer: {answer!r}")
        time.sleep(max(pause, min(waited / 10, LONGEST_PAUSE)))
    return answer


def comes_true(condition: Callable[[], bool], within: float = 60) -> bool:
    """Wait until a condition is true, at most some seconds; return whether it became so."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
