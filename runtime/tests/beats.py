"""Beats for tests, and what arrives at the broker from them."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis as redis_client
from supervised import Supervised, supervised
from testkit.redis import Redis

from celeriac.beat.status import BeatStatus, Standby

HOURLY = 3600

_PATTERN = re.compile(
    r"last tick (?P<last_tick>\d+) \(\S+\); (?P<entries>\d+) entries; "
    r"(?:next due in (?P<next_due>\d+) s|nothing due)"
    r"(?:; (?P<faulty>\d+) faulty: (?P<named>\[.*\]))?"
)


@contextmanager
def beat(environment: dict[str, str]) -> Iterator[Supervised]:
    """Run beat with our scheduler."""
    scheduler = "--scheduler=celeriac.beat.scheduler:scheduler"
    command = ["-A", "celeriac.app", "beat", scheduler]
    arguments = ["--pidfile=", "--loglevel=info", "--max-interval=1", f"--schedule={environment['SCRATCH']}/runs"]
    with supervised("celeriac.celery", *command, *arguments, environment=environment) as running:
        yield running


def schedule(seconds: float, count: int = 1) -> dict[str, Any]:
    """Return a beat_schedule as settings would, of the task ``celeriac.ping``."""
    entry = {"task": "celeriac.ping", "schedule": seconds}
    return {f"entry {number}": entry for number in range(count)}


def with_schedule(environment: dict[str, str], entries: dict[str, Any], **settings: Any) -> dict[str, str]:
    """Return an environment in which the project has these entries, and others, in its settings."""
    # No expiry of results: it would bring an entry of Celery's own, at some hours of the day.
    more = {"CELERY_BEAT_SCHEDULE": entries, "CELERY_RESULT_EXPIRES": None, **settings}
    return {**environment, "MORE_SETTINGS": json.dumps(more)}


OVERDUE = """
import datetime, django
django.setup()
from django_celery_beat.models import IntervalSchedule, PeriodicTask
PeriodicTask.objects.create(
    name="entry 0",
    task="celeriac.ping",
    interval=IntervalSchedule.objects.get_or_create(every=1, period="seconds")[0],
    last_run_at=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
)
"""


def overdue(environment: dict[str, str]) -> dict[str, str]:
    """Return an environment in which beat has something to send in its first tick."""
    changed = with_schedule(environment, schedule(1))
    subprocess.run([sys.executable, "-c", OVERDUE], env=changed, check=True)
    return changed


class Arrivals:
    """What beats sent, taken from the broker as it arrives.

    Attributes:
        sends: pairs of time.monotonic() and the name of the entry, in the order of arrival.
    """

    def __init__(self, redis: Redis) -> None:
        self.sends: list[tuple[float, str]] = []
        self._url = redis.url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def of(self, name: str) -> list[float]:
        """Return when an entry was sent."""
        return [moment for moment, sent in self.sends if sent == name]

    def close(self) -> None:
        """Read no more."""
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        with redis_client.Redis.from_url(self._url, socket_timeout=5) as client:
            while not self._over.is_set():
                try:
                    found = client.blpop(["celery"], timeout=0.1)
                except redis_client.RedisError:  # a test stopped it
                    time.sleep(0.1)
                    continue
                if found:
                    headers = json.loads(found[1])["headers"]
                    self.sends.append((time.monotonic(), headers["periodic_task_name"]))


@contextmanager
def arrivals(redis: Redis) -> Iterator[Arrivals]:
    """Take what is sent from the broker until the block ends."""
    taken = Arrivals(redis)
    try:
        yield taken
    finally:
        taken.close()


def parse_status(text: str) -> BeatStatus | Standby:
    """Read the line back in which beat says how it is.

    Raises:
        ValueError: beat has not ticked yet, or this is not its status.
    """
    line = text.strip()
    if line in {standby.value for standby in Standby}:
        return Standby(line)
    match = _PATTERN.fullmatch(line)
    if match is None:
        raise ValueError(f"not the status of a beat that ticks: {text!r}")
    next_due = match["next_due"]
    return BeatStatus(
        last_tick=int(match["last_tick"]),
        entries=int(match["entries"]),
        next_due=None if next_due is None else int(next_due),
        faulty=int(match["faulty"] or 0),
        named=tuple(json.loads(match["named"] or "[]")),
    )
