"""A worker that held very many is buried in small steps: all others wait for Redis meanwhile."""

import os
import re
import signal
import uuid

import redis as redis_client
from testkit.redis import Redis
from workers import messages, send, worker

MANY = 3000


def copied(client: "redis_client.Redis", held: bytes, number: int) -> None:
    """Let a holder hold copies of the one message that it has."""
    ((tag, place),) = [(tag, place) for tag, place in client.hgetall(held).items() if tag]
    note, score = client.hget("unacked", tag), client.zscore("unacked_index", tag)
    assert note is not None and score is not None
    with client.pipeline(transaction=False) as together:
        for _ in range(number):
            other = str(uuid.uuid4()).encode()
            together.hset("unacked", other, note.replace(tag, other))
            together.zadd("unacked_index", {other: score})
            together.hset(held, other, place)
        together.execute()


def test_what_a_killed_worker_held_is_read_in_small_steps(environment: dict[str, str], redis: Redis) -> None:
    with redis_client.Redis.from_url(redis.url) as client:
        with worker(environment) as first:
            send(redis, "later", 0, countdown=36000)
            first.waits(lambda: messages(redis) == (0, 1), "held task")
            (held,) = [key for key in client.keys("celeriac.held.*") if client.hlen(key)]
            os.killpg(first.process.pid, signal.SIGKILL)
            first.process.wait()
        copied(client, held, MANY)
        client.config_set("slowlog-max-len", 100_000)
        client.config_set("slowlog-log-slower-than", 0)
        client.slowlog_reset()
        try:
            with worker(environment) as second:
                second.waits(lambda: not client.exists(held), "burial")
        finally:
            client.config_set("slowlog-log-slower-than", 10_000)
        commands = [entry["command"].decode() for entry in client.slowlog_get(100_000)]
    about = [command for command in commands if held.decode() in command or " unacked " in command]
    assert any(command.startswith(f"HSCAN {held.decode()}") for command in about)
    assert not [each for each in about if each.startswith(("HKEYS", "HGETALL", "HVALS"))]
    # Redis keeps 32 words of a command, and says how many more there were.
    more = [int(number) for each in about for number in re.findall(r"\((\d+) more arguments", each)]
    assert more
    assert max(more) <= 500
