"""Workers whose messages are theirs as long as they live, and the ways in which they end."""

import json
import os
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import redis as redis_client
from supervised import Supervised
from testkit.redis import Redis
from workers import messages, record

from celeriac.transport.holder import HELD, HOLDERS, LEASE
from celeriac.transport.parking import UNFINISHED, Parked, all_parked

# So long that no test lives to see it end: what comes back, comes back for another reason.
FOR_EVER = 600
# For a worker that takes itself for one of another host: it can see nobody die.
ELSEWHERE = {"CELERIAC_BOOT_ID": "00000000-0000-0000-0000-00000000e15e"}


def leased(environment: dict[str, str], settings: dict[str, Any] | None = None, **options: Any) -> dict[str, str]:
    """Return the environment of a worker with other options of the transport.

    Args:
        environment: the one that is changed.
        settings: more of Celery's, by their Django names.
        options: of the transport, such as ``lease_seconds``.
    """
    given = json.loads(environment.get("MORE_SETTINGS", "{}"))
    standing = given.get("CELERY_BROKER_TRANSPORT_OPTIONS", {})
    transport = {"CELERY_BROKER_TRANSPORT_OPTIONS": {**standing, **options}}
    more = {"CELERY_IMPORTS": ["work.deadly"], **given, **(settings or {}), **transport}
    return {**environment, "MORE_SETTINGS": json.dumps(more)}


def prefetching(multiplier: int) -> dict[str, Any]:
    """Return the setting by which a worker takes so many messages for each of its processes."""
    return {"CELERY_WORKER_PREFETCH_MULTIPLIER": multiplier}


def kill(running: Supervised) -> None:
    """End a worker with all of its processes, as the end of a host or the OOM killer does."""
    os.killpg(running.process.pid, signal.SIGKILL)
    running.process.wait()


def starts(environment: dict[str, str]) -> Counter[str]:
    """Return how often each task began."""
    lines = (line.split(" ", 1) for line in record(environment))
    return Counter(name for word, name in lines if word == "began")


def ended(environment: dict[str, str]) -> set[str]:
    """Return the names of the tasks that came to their end."""
    lines = (line.split(" ", 1) for line in record(environment))
    return {name for word, name in lines if word == "ended"}


def nothing_left(running: Supervised, broker: Redis) -> None:
    """Wait until no message is anywhere."""
    running.waits(lambda: messages(broker) == (0, 0), "queue with nothing in it")
    with client_of(broker) as client:
        running.waits(lambda: client.zcard("unacked_index") == 0, "index with nothing in it")


def client_of(broker: Redis) -> "redis_client.Redis":
    """Connect to a Redis, as an onlooker."""
    return redis_client.Redis.from_url(broker.url, decode_responses=True)


def of_holders(broker: Redis) -> tuple[int, int, int]:
    """Return how many holders there are, how many hold something, and how many leases last."""
    with client_of(broker) as client:
        keys = {prefix: len(list(client.scan_iter(f"{prefix}*"))) for prefix in (HELD, LEASE)}
        return client.hlen(HOLDERS), keys[HELD], keys[LEASE]


def lease_of(broker: Redis, running: Supervised) -> str:
    """Return the key of a worker's lease."""
    with client_of(broker) as client:
        names = {json.loads(who)["pid"]: name for name, who in client.hgetall(HOLDERS).items()}
    return f"{LEASE}{names[running.process.pid]}"


def queued(broker: Redis, queue: str = "celery") -> list[str]:
    """Return the first arguments of the tasks in a queue, as they would be taken."""
    return [message["headers"]["argsrepr"].split("'")[1] for message in _queued(broker, queue)]


def unfinished(broker: Redis, queue: str = "celery") -> list[int]:
    """Return how often each task of a queue did not end, as they would be taken."""
    return [message["properties"].get(UNFINISHED, 0) for message in _queued(broker, queue)]


def _queued(broker: Redis, queue: str) -> list[dict[str, Any]]:
    with client_of(broker) as client:
        return [json.loads(text) for text in client.lrange(queue, 0, -1)][::-1]


def parked_in(broker: Redis) -> list[Parked]:
    """Return what is parked."""
    with client_of(broker) as client:
        return list(all_parked(client))


def result_of(environment: dict[str, str], task_id: str) -> tuple[str, str]:
    """Return a task's state and result as the database has them, "" for what it has not."""
    with closing(sqlite3.connect(Path(environment["SQLITE"]), timeout=20)) as database:
        found = database.execute(
            "SELECT status, result FROM django_celery_results_taskresult WHERE task_id = ?",
            (task_id,),
        ).fetchone()
    return found or ("", "")
