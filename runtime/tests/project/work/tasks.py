"""Tasks whose doings a test can watch in a file."""

import os
import time
from pathlib import Path

from celery import shared_task


def _record(word: str, name: str) -> None:
    with Path(os.environ["RECORD"]).open("a") as record:
        record.write(f"{word} {name}\n")


@shared_task
def sleep(name: str, seconds: float) -> str:
    """Take some time, and say when it began and ended."""
    _record("began", name)
    time.sleep(seconds)
    _record("ended", name)
    return name
