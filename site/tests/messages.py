"""What was really sent to the broker, read from there."""

import base64
import json
from typing import Any

import redis

from processes import RedisServer


class Queue:
    """The messages that wait in a database of a Redis server; nobody else takes any."""

    def __init__(self, server: RedisServer, database: int) -> None:
        self._redis: Any = redis.Redis(port=server.port, password=server.password, db=database)

    def take(self) -> list[dict[str, Any]]:
        """Take all messages; return id, task, args and kwargs of each, the oldest of each priority first.

        args and kwargs are as JSON has them: a worker would see what Celery's serializer makes of that.
        """
        messages = []
        for key in sorted(self._redis.keys("celery*")):
            while raw := self._redis.rpop(key):
                message = json.loads(raw)
                args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
                headers = message["headers"]
                messages.append({"id": headers["id"], "task": headers["task"], "args": args, "kwargs": kwargs})
        return messages
