"""Where in Redis a message can be, and which messages are there.

A queue is a list for each priority step, ``unacked`` a hash of what workers have and did not
acknowledge, and what no worker knows is parked (`celeriac.unknown`). Lists are filled at the left
and emptied at the right. (kombu/transport/redis.py, 5.7)
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from redis import Redis

from celeriac import forks
from celeriac.ledger.receipts import RECEIPTS
from celeriac.unknown import PARKED

# Messages read at once, and the most that is read for one look: some seconds of work, in a thread.
SLICE = 1000
LONGEST = 200_000
# Of the oldest messages of a list, so many are looked at to learn how old they are.
HEAD = 100

# Task id and retries. A retry has the id of the attempt before it, which may be somewhere, too.
Attempt = tuple[str, int]


class Places:
    """The broker's Redis, as the ledger reads it.

    Args:
        channel: of kombu's Redis transport, on a connection that nobody else uses.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        # kombu's own client writes the prefix of a site before the keys of some commands only.
        self._prefix = channel.global_keyprefix
        self._redis = Redis(connection_pool=channel.pool)

    def list_of(self, queue: str, priority: int | None) -> str:
        """Return the name of the list in which a message of this queue and priority waits."""
        properties = {"properties": {"priority": priority}}
        step = self._channel._get_message_priority(properties, reverse=False)
        return str(self._channel._q_for_pri(queue, step))

    def lists_of(self, queue: str) -> list[str]:
        """Return the names of all lists of a queue."""
        return [self._channel._q_for_pri(queue, step) for step in self._channel.priority_steps]

    def length(self, lists: Iterable[str]) -> int:
        """Return how many messages are in these lists together."""
        return sum(self._redis.llen(self._prefix + name) for name in lists)

    def head(self, name: str) -> list[str]:
        """Return the task ids of the messages of a list that come next."""
        messages = self._redis.lrange(self._prefix + name, -HEAD, -1)
        return [_attempt(json.loads(message))[0] for message in messages]

    def present(self, queues: Iterable[str]) -> set[Attempt]:
        """Return what all messages are that are in these queues, held by workers, or parked.

        A message that goes from a queue to a worker in the meantime is seen in ``unacked``
        afterwards, one that comes back before that was seen there in the beginning. Only one that
        does both, within the same moment, is seen nowhere.
        """
        found = self._unacked()
        for queue in (*queues, PARKED):
            for name in self.lists_of(queue):
                found.update(self._list(name))
        return found | self._unacked()

    def receipts(self) -> Iterator[tuple[bytes, float]]:
        """Yield all receipts with their times; those that were yielded may be thrown away."""
        yield from self._redis.zscan_iter(self._prefix + RECEIPTS, count=SLICE)

    def throw_away(self, receipts: list[bytes]) -> None:
        """Remove receipts."""
        if receipts:
            self._redis.zrem(self._prefix + RECEIPTS, *receipts)

    def _unacked(self) -> set[Attempt]:
        key = self._prefix + self._channel.unacked_key
        found = set()
        for _, kept in self._redis.hscan_iter(key, count=SLICE):
            forks.rest()
            found.add(_attempt(json.loads(kept)[0]))
        return found

    def _list(self, name: str) -> Iterator[Attempt]:
        """Yield what is in a list, from the end where it grows: so nothing is missed."""
        start = 0
        while found := self._redis.lrange(self._prefix + name, start, start + SLICE - 1):
            forks.rest()
            yield from (_attempt(json.loads(message)) for message in found)
            start += SLICE


def _attempt(message: dict[str, Any]) -> Attempt:
    """Return the task id and the attempt of a message, as kombu keeps it."""
    headers = message.get("headers", {})
    return str(headers.get("id")), headers.get("retries") or 0
