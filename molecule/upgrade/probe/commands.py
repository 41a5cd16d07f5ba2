"""Commands that break a worker from inside, as no signal could: they run in its event loop."""

from __future__ import annotations

import time
from typing import Any

from celery.worker.control import control_command


@control_command(args=[("seconds", float)])
def probe_wedge(state: Any, seconds: float) -> dict[str, str]:
    """Let the event loop stand still."""
    time.sleep(seconds)
    return {"ok": "it has stood still"}


@control_command()
def probe_drop_consumer(state: Any) -> dict[str, str]:
    """Take the consumer off its queues behind Celery's back: all else goes on, but nothing is received."""
    state.consumer.task_consumer.cancel()
    return {"ok": "nothing is received any more"}
