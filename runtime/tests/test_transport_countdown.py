"""A task with a time to come runs once, then: whatever becomes of those who hold it meanwhile.

What a visibility timeout of two seconds does to a countdown of half a minute, that of half an hour
does to a week. ``CELERIAC_FULL=1`` makes ten deploys and three kills of it.
"""

import os
import time
from collections.abc import Iterator

import pytest
from leased import client_of, kill, leased, nothing_left, starts
from services import Redis, redis_server
from workers import messages, record, send, worker

DEPLOYS, KILLS, COUNTDOWN = (10, 3, 120) if os.environ.get("CELERIAC_FULL") else (2, 1, 30)


@pytest.fixture
def redis_on_disk() -> Iterator[Redis]:
    """A Redis that has everything again when it is started again."""
    with redis_server(on_disk=True) as server, client_of(server) as client:
        client.config_set("appendfsync", "always")
        yield server


def test_a_countdown_outlives_deploys_kills_and_a_restart_of_redis(
    environment: dict[str, str], redis_on_disk: Redis
) -> None:
    environment = {**environment, "BROKER_URL": redis_on_disk.url}
    environment = leased(environment, visibility_timeout=2, lease_seconds=3)
    send(redis_on_disk, "later", 0, countdown=COUNTDOWN)
    due = time.time() + COUNTDOWN
    for ends in [*["deploy"] * DEPLOYS, *["kill"] * KILLS]:
        with worker(environment) as holder:
            holder.waits(lambda: messages(redis_on_disk) == (0, 1), "held task")
            kill(holder) if ends == "kill" else holder.stop()
    with worker(environment) as holder, worker(environment) as other:
        holder.waits(lambda: messages(redis_on_disk) == (0, 1), "held task")
        other.told("READY=1")
        redis_on_disk.stop()
        redis_on_disk.start()
        assert not record(environment), "it came before anybody could hold it for long"
        holder.waits(lambda: "ended later" in record(environment), "its time", COUNTDOWN + 60)
        assert time.time() >= due - 1
        nothing_left(holder, redis_on_disk)
        assert starts(environment) == {"later": 1}
