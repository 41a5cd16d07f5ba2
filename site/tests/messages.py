"""What was really sent to the broker, read from there."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest
import redis
from celery import current_app

from processes import RedisServer

DATABASE = 9  # of the Redis server: no worker of the tests looks there


class Queue:
    """The messages that wait at the broker; nobody else takes any."""

    def __init__(self, server: RedisServer) -> None:
        self._redis: Any = redis.Redis(port=server.port, password=server.password, db=DATABASE)
        self._redis.flushdb()

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


@contextmanager
def sent_to(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """Let what this process sends go to a queue of a real Redis, until the block ends."""
    address = f"redis://:{quote(server.password, safe='')}@127.0.0.1:{server.port}/{DATABASE}"
    monkeypatch.setenv("CELERY_BROKER_URL", address)  # Celery reads it for each new pool of connections
    _forget_connections()
    yield Queue(server)
    _forget_connections()


def _forget_connections() -> None:
    """Let Celery connect anew: it keeps its connections, wherever they lead."""
    app: Any = current_app
    app._pool = app.amqp._producer_pool = None
