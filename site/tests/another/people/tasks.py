"""Two tasks, one with arguments of each kind."""

import time
from datetime import date

from celery import shared_task


@shared_task
def greet(name: str, times: int = 1, pause: float | None = None, loud: bool = False, day: date | None = None) -> str:
    """Greet somebody so many times. It takes a while where a pause is given."""
    time.sleep(pause or 0)
    greeting = f"hello {name} " * times
    return greeting.upper() if loud else greeting


@shared_task
def fail() -> None:
    """Fail."""
    raise RuntimeError("as it should")
