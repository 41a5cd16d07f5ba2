"""What was really sent to the broker, read from there."""

import base64
import json
from typing import Any

import redis
from celeriac.transport.parking import PARKED, parked
from testkit.redis import Redis


class Queue:
    """The messages that wait in a database of a Redis server; nobody else takes any."""

    def __init__(self, server: Redis, database: int) -> None:
        self._redis: Any = redis.Redis(port=server.port, password=server.password, db=database)

    def take(self, queue: str = "celery") -> list[dict[str, Any]]:
        """Take all messages of a queue; return what is in each, the oldest of each priority first.

        That is id, task, args and kwargs, and the headers and properties around them. args and kwargs are as JSON has
        them: a worker would see what Celery's serializer makes of that.
        """
        messages = []
        for key in sorted(self._redis.keys(f"{queue}*")):
            while raw := self._redis.rpop(key):
                message = json.loads(raw)
                args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
                headers = message["headers"]
                around = {"headers": headers, "properties": message["properties"]}
                messages.append(
                    {"id": headers["id"], "task": headers["task"], "args": args, "kwargs": kwargs, **around}
                )
        return messages

    def park(self, run_id: str, times: int = 5, queue: str = "celery") -> None:
        """Park the message of a run, as a worker does that finds it too often unfinished."""
        for key in self._redis.keys(f"{queue}*"):
            for raw in self._redis.lrange(key, 0, -1):
                message = json.loads(raw)
                if message["headers"]["id"] == run_id:
                    self._redis.lrem(key, 1, raw)
                    text = parked(message, key.decode(), "process 1 on here ended", times)
                    self._redis.hset(PARKED, message["properties"]["delivery_tag"], text)
