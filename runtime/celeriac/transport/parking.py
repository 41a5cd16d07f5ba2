"""A message that did not end too often is parked: it is not lost, and ends no other worker.

All of them are in one hash in Redis, by their delivery tags, until somebody releases them.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps

from celeriac.transport.scripts import RELEASE

PARKED = "celeriac.poison"
# In the properties of a message: how often it was taken, and did not end.
UNFINISHED = "celeriac_unfinished"


@dataclass(frozen=True)
class Parked:
    """A message that is parked.

    Attributes:
        tag: by which it is released.
        task_id, task: what it is.
        reason: why it did not end the last time.
        times: how often it did not.
        since: when it was parked, in seconds of Unix time.
        queue: the list that it goes back to.
    """

    tag: str
    task_id: str
    task: str
    reason: str
    times: int
    since: float
    queue: str


def parked(message: dict[str, Any], from_list: str, reason: str, times: int) -> str:
    """Return a message as it is parked."""
    properties = {
        name: value
        for name, value in message["properties"].items()
        if name != UNFINISHED  # whoever releases it lets it begin anew
    }
    released = dumps({**message, "properties": properties})
    headers = message["headers"]
    return _text(headers.get("task"), headers.get("id"), reason, times, from_list, released)


def unreadable(text: str, from_list: str) -> str:
    """Return what is no message as it is parked."""
    return _text("", "", "it cannot be read", 1, from_list, text)


def _text(task: Any, task_id: Any, reason: str, times: int, from_list: str, message: str) -> str:
    return json.dumps(
        {
            "task": task,
            "id": task_id,
            "reason": reason,
            "times": times,
            "since": time.time(),
            "list": from_list,
            "message": message,
        }
    )


def all_parked(client: Any, prefix: str = "") -> Iterator[Parked]:
    """Yield what is parked.

    Args:
        client: of redis-py, with keys as they are.
        prefix: of all keys.
    """
    for tag, text in client.hscan_iter(prefix + PARKED):
        found = json.loads(text)
        yield Parked(
            bytes_to_str(tag),
            str(found["id"]),
            str(found["task"]),
            found["reason"],
            found["times"],
            found["since"],
            found["list"],
        )


def release(client: Any, tag: str, prefix: str = "") -> bool:
    """Requeue a message, behind the others; return whether it was parked.

    Args:
        client: of redis-py, with keys as they are.
        tag: of the message.
        prefix: of all keys.
    """
    key = prefix + PARKED
    text = client.hget(key, tag)
    if text is None:
        return False
    found = json.loads(text)
    return bool(RELEASE(client, key, tag, found["list"], found["message"]))
