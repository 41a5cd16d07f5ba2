"""Wait for something to become true, and no longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# A computer that does other work too takes longer; how long is a figure and no fault.
GENEROUS = 10


def eventually(probe: Callable[[], T], seconds: float, pause: float = 0.2) -> T:
    """Return the first answer of the probe that counts as true.

    Args:
        probe: asked again and again; what it raises is not caught.
        seconds: what it takes at most where nothing else is at work. After ten times as long its last answer is the
            failure of the test.
        pause: seconds between two questions.
    """
    deadline = time.monotonic() + GENEROUS * seconds
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"not within {GENEROUS * seconds} s; the last answer: {answer!r}"
        time.sleep(pause)
    return answer
