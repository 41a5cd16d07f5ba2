"""A task with a time to come runs once, then: whatever becomes of those who hold it meanwhile.

What a visibility timeout of two seconds does to a countdown of half a minute, that of half an hour
does to a week. ``CELERIAC_FULL=1`` makes ten deploys and three kills of it.
"""

import os
import time

from leased import kill, leased, nothing_left, starts
from testkit.redis import Redis
from workers import messages, record, send, worker

DEPLOYS, KILLS, SHORTEST = (10, 3, 120) if os.environ.get("CELERIAC_FULL") else (2, 1, 30)


def one_life(environment: dict[str, str]) -> float:
    """Return how long a worker takes from its start to its end here and now, in seconds."""
    began = time.monotonic()
    with worker(environment) as first:
        first.told("READY=1")
        first.stop()
    return time.monotonic() - began


def test_a_countdown_outlives_deploys_kills_and_a_restart_of_redis(
    environment: dict[str, str], kept_redis: Redis
) -> None:
    environment = {**environment, "BROKER_URL": kept_redis.url}
    environment = leased(environment, visibility_timeout=2, lease_seconds=3)
    countdown = max(SHORTEST, 4 * (DEPLOYS + KILLS + 1) * round(one_life(environment)))
    send(kept_redis, "later", 0, countdown=countdown)
    due = time.time() + countdown
    for ends in [*["deploy"] * DEPLOYS, *["kill"] * KILLS]:
        with worker(environment) as holder:
            holder.waits(lambda: messages(kept_redis) == (0, 1), "held task")
            kill(holder) if ends == "kill" else holder.stop()
    with worker(environment) as holder, worker(environment) as other:
        holder.waits(lambda: messages(kept_redis) == (0, 1), "held task")
        other.told("READY=1")
        kept_redis.stop()
        kept_redis.start()
        assert not record(environment), "it came before anybody could hold it for long"
        holder.waits(lambda: "ended later" in record(environment), "its time", countdown + 60)
        assert time.time() >= due - 1
        nothing_left(holder, kept_redis)
        assert starts(environment) == {"later": 1}
