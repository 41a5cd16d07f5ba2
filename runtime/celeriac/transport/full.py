"""What passes although Redis is full.

Publishers are refused; workers must not be, or nobody would empty the queues. When it is full,
Redis refuses the first command of a script that needs memory, but none behind one that has written:
so each script of a worker begins with one that frees. Inside of MULTI it refuses everything, also
what only reads: so that is done without.
"""

from typing import Any

import redis
from kombu.utils.json import dumps

from celeriac.transport.scripts import BIND, PUSH

# A key that is never there.
NO_KEY = "celeriac.none"

# What is changed stands before kombu's class, and there are two of these.
Mixin: Any = object


class WhenFull(Mixin):
    """The part of a channel that passes."""

    def _size(self, queue: str) -> int:
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as together:
            for key in self._keys_of(queue):
                together.llen(key)
            return sum(together.execute())

    def _has_queue(self, queue: str, **_: Any) -> bool:
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as together:
            for key in self._keys_of(queue):
                together.exists(key)
            return any(together.execute())

    def _purge(self, queue: str) -> int:
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as together:
            for key in self._keys_of(queue):
                together.llen(key).delete(key)
            return sum(together.execute()[::2])

    def _keys_of(self, queue: str) -> list[str]:
        return [self._q_for_pri(queue, step) for step in self.priority_steps]

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)
        except self.ResponseError as error:
            if not is_full(error):
                raise
            member = self.sep.join([routing_key or "", pattern or "", queue or ""])
            sets = [self.keyprefix_queue % (exchange,)]
            if hasattr(self, "keyprefix_binding_permanent") and queue not in self._expires:
                sets.append(self.keyprefix_binding_permanent % (exchange,))
            prefix = self.global_keyprefix
            client = redis.Redis(connection_pool=self.pool)
            BIND(client, member, prefix + NO_KEY, *(prefix + each for each in sets))

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        try:
            super()._put(queue, message, **kwargs)
        except self.ResponseError as error:
            # A retry takes the place of what runs, which ends with it: refused, it would be lost.
            if not is_full(error) or not message.get("headers", {}).get("retries"):
                raise
            key = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
            client = redis.Redis(connection_pool=self.pool)
            prefix = self.global_keyprefix
            PUSH(client, prefix + key, dumps(message), prefix + NO_KEY)


def is_full(error: Exception) -> bool:
    """Return whether this is how Redis says that it is full."""
    return "maxmemory" in str(error) or str(error).startswith("OOM")
