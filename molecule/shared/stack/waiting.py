"""Wait for something to become true, and no longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(probe: Callable[[], T], seconds: float, pause: float = 0.2) -> T:
    """Return the first answer of the probe that counts as true.

    Args:
        probe: asked again and again; what it raises is not caught.
        seconds: after this time its last answer is the failure of the test.
        pause: seconds between two questions.
    """
    deadline = time.monotonic() + seconds
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"not within {seconds} s; the last answer: {answer!r}"
        time.sleep(pause)
    return answer
