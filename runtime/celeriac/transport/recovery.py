"""What was taken and did not end is requeued, in front, in the order it was taken in.

Each message that comes back because its worker is gone is counted, in itself, so that the count
goes where it goes. One that has not ended so many times is parked instead (`celeriac.transport
.parking`). What comes back by a stop, a drain or a lost connection is not counted.

Whose fault was it? The first end of a worker counts for all that it had. A message that has been
counted is marked when it starts (`mark_started`), and from then on only ends of workers that had
started it count: what was just waiting beside the culprit stays at one. What was counted twice begins alone
(`celeriac.worker.deliveries`): what just ran beside the culprit stays at two.
"""

import json
import logging
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

from celeriac.transport import identity
from celeriac.transport.holder import HELD, HOLDERS, LEASE, Holder
from celeriac.transport.parking import PARKED, UNFINISHED, parked, unreadable
from celeriac.transport.scripts import ACKNOWLEDGE, MARK, ORPHANS, REFRESH, REQUEUE
from celeriac.transport.scripts import HOLDERS as ALL_HOLDERS

# After so many without an end a message is parked.
DELIVERIES = int(os.environ.get("CELERIAC_TASK_DELIVERIES", "5"))
BATCH = 50
# So many are read at once: a worker may hold a hundred thousand that wait for their time, and while
# Redis reads, all others wait.
PAGE = 500

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Keys:
    """The keys in which kombu keeps what is taken, with their prefix."""

    prefix: str
    unacked: str
    index: str


class Recovery:
    """Requeues what this process had, and what those had that are gone.

    Attributes:
        holder: this process.
        on_parked: is called with a message that was parked, as kombu has it, the reason and the count.
    """

    def __init__(self, client: "redis.Redis", keys: Keys, holder: Holder, deliveries: int) -> None:
        """Prepare it.

        Args:
            client: with keys as they are.
            keys: of kombu.
            holder: this process.
            deliveries: after how many without an end a message is parked.
        """
        self.holder = holder
        self.on_parked: Any = None
        self._client = client
        self.keys = keys
        self._deliveries = deliveries

    def requeue_own(self, tags: Iterable[str], *, reason: str = "", last: bool = False) -> None:
        """Requeue what this process has.

        Args:
            tags: of the messages.
            reason: why a message did not end, if that is to be counted.
            last: behind all others in the queue, not in front.
        """
        by_holder: dict[str, list[str]] = {}
        for tag in tags:
            name = self.holder.give_up(tag)
            if name is not None:
                by_holder.setdefault(name, []).append(tag)
        for name, held in by_holder.items():
            push = "LPUSH" if last else "RPUSH"
            self._requeue(name, held, reason, push, always=True)

    def requeue_forgotten(self) -> None:
        """Requeue what this process holds, as Redis has it, and does not know of.

        So it is with what came over a connection that died, and with what it gave up when it lost
        one. Nobody else would ever requeue that: this process lives.
        """
        with self.holder.lock:
            held = self._tags(self.holder.held)
            tags = held - self.holder.taken.keys() - self.holder.acks.keys()
            if tags:
                _log.info("%d message(s), not begun when Redis was lost, are requeued", len(tags))
                self._requeue(self.holder.name, [*tags], "", "RPUSH", always=True)

    def scan(self, *, by_lease: bool) -> None:
        """Requeue what those had that are gone.

        Args:
            by_lease: a lease that has run out is enough, also of a process that may live.
        """
        prefix = self.keys.prefix
        found = ALL_HOLDERS(self._client, prefix + HOLDERS, prefix + LEASE)
        for name, text, lasts in zip(found[::3], found[1::3], found[2::3], strict=True):
            name = bytes_to_str(name)
            who: identity.Identity = json.loads(text)
            if name == self.holder.name:
                continue
            if identity.is_dead(who):
                self._client.delete(f"{prefix}{LEASE}{name}")
            elif lasts or not by_lease:
                continue
            self._requeue_of_dead(name, who)

    def orphans(self, visibility_timeout: float, limit: int) -> list[str]:
        """Return what was taken a visibility timeout ago, and is held by nobody.

        Args:
            visibility_timeout: in seconds.
            limit: how many at most.
        """
        keys, prefix = self.keys, self.keys.prefix
        found = ORPHANS(self._client, keys.index, visibility_timeout, limit, prefix + HOLDERS, prefix + HELD)
        return [bytes_to_str(tag) for tag in found]

    def refresh(self) -> None:
        """Let what this process holds not become old, for workers without leases go by that."""
        tags = [*self._tags(self.holder.held)]
        for start in range(0, len(tags), 2 * BATCH):
            REFRESH(self._client, self.keys.index, *tags[start : start + 2 * BATCH])

    def mark_started(self, tag: str) -> None:
        """Note that a message which was counted before is started."""
        name = self.holder.taken.get(tag)
        held = self.holder.held_key(name) if name else ""
        entry = self._client.hget(held, tag) if held else None
        if entry is not None:
            number, _, from_list = bytes_to_str(entry).split(" ", 2)
            MARK(self._client, held, tag, f"{number} B {from_list}", entry)

    def park_unreadable(self, tag: str, from_list: str, message: bytes | str) -> None:
        """Park what is no message at all: it would end one worker after the other.

        Args:
            tag: under which it was noted; empty if it was not.
            from_list: where it was.
            message: as it was there.
        """
        _log.error("something from %s cannot be read: parked", from_list)
        text = unreadable(bytes_to_str(message), from_list)
        self._client.hset(self.keys.prefix + PARKED, tag or uuid.uuid4().hex, text)
        if tag:
            ACKNOWLEDGE(self._client, self.keys.unacked, self.keys.index, self.holder.held, tag)

    def _tags(self, held: str) -> set[str]:
        found = self._client.hscan_iter(held, count=PAGE)
        return {bytes_to_str(tag) for tag, _ in found if tag}

    def _values(self, key: str, fields: list[str]) -> list[Any]:
        values: list[Any] = []
        for start in range(0, len(fields), PAGE):
            values += self._client.hmget(key, fields[start : start + PAGE])
        return values

    def _requeue_of_dead(self, name: str, who: identity.Identity) -> None:
        tags = [*self._tags(self.holder.held_key(name))]
        process = f"{who['unit'] or 'process'} {who['pid']} on {who['hostname']}"
        if tags:
            _log.warning("%s is gone: %d message(s) of it are requeued", process, len(tags))
        self._requeue(name, tags, f"{process} ended", "RPUSH", always=False)

    def _requeue(self, name: str, tags: list[str], reason: str, push: str, *, always: bool) -> None:
        """Requeue what a holder has.

        Args:
            name: of the holder.
            tags: of the messages.
            reason: why they did not end, if that is to be counted.
            push: the command that puts one into a list.
            always: also while its lease lasts, and counted if it had not begun: it is this process.
        """
        keys, held = self.keys, self.holder.held_key(name)
        lease = "" if always else f"{keys.prefix}{LEASE}{name}"
        head = keys.unacked, keys.index, keys.prefix + HELD, keys.prefix + HOLDERS, name, lease
        entries, texts = self._values(held, tags), self._values(keys.unacked, tags)
        returns = [
            _Requeued.of(tag, bytes_to_str(entry), text, reason, always=always)
            for tag, entry, text in zip(tags, entries, texts, strict=True)
            if entry is not None
        ]
        # Put in front one after the other: the oldest comes last, and so is the first again.
        returns.sort(key=lambda each: each.number, reverse=push == "RPUSH")
        moves = [(each, self._move(each, push, reason)) for each in returns]
        for start in range(0, max(len(moves), 1), BATCH):
            batch = moves[start : start + BATCH]
            requeued = REQUEUE(self._client, *head, *(part for _, move in batch for part in move))
            if requeued == -1:
                return
            for each, move in batch:
                if move[1] == "HSET":
                    self._parked(each, reason)

    def _move(self, each: "_Requeued", push: str, reason: str) -> tuple[str, str, str, str]:
        """Return what becomes of a message: its tag, a command, its key and the message."""
        park = "HSET", self.keys.prefix + PARKED
        if each.message is None and each.unreadable:
            return each.tag, *park, unreadable(each.unreadable, each.from_list)
        if each.message is None:
            return each.tag, "", "", ""
        if each.counted and each.unfinished >= self._deliveries:
            return each.tag, *park, parked(each.message, each.from_list, reason, each.unfinished)
        return each.tag, push, each.from_list, dumps(each.message)

    def _parked(self, each: "_Requeued", reason: str) -> None:
        if each.message is None:
            _log.error("something from %s cannot be read: parked", each.from_list)
            return
        headers = each.message["headers"]
        name, task_id = headers.get("task"), headers.get("id")
        _log.error("Task %s[%s] did not end %d times (%s): parked", name, task_id, each.unfinished, reason)
        if self.on_parked is not None:
            self.on_parked(each.message, reason, each.unfinished)


@dataclass
class _Requeued:
    """A message that is requeued.

    Attributes:
        tag: of the message.
        number: by which what was taken later has a higher one.
        from_list: where it was.
        message: as kombu has it; None if Redis has it no more, or it cannot be read.
        counted: this return is.
        unreadable: the text that cannot be read.
    """

    tag: str
    number: int
    from_list: str
    message: dict[str, Any] | None
    counted: bool = False
    unreadable: str = ""

    @classmethod
    def of(cls, tag: str, entry: str, text: Any, reason: str, *, always: bool) -> "_Requeued":
        """Return it, counted and marked as given out before."""
        number, mark, from_list = entry.split(" ", 2)
        if text is None:
            return cls(tag, int(number), from_list, None)
        try:
            message = loads(bytes_to_str(text))[0]
            properties = message["properties"]
            message["headers"]["redelivered"] = properties["delivery_info"]["redelivered"] = True
        except (ValueError, KeyError, TypeError):
            return cls(tag, int(number), from_list, None, unreadable=bytes_to_str(text))
        before = properties.get(UNFINISHED, 0)
        counted = bool(reason) and (always or mark == "B" or not before)
        if counted:
            properties[UNFINISHED] = before + 1
        return cls(tag, int(number), from_list, message, counted)

    @property
    def unfinished(self) -> int:
        """How often it did not end."""
        return int(self.message["properties"].get(UNFINISHED, 0)) if self.message else 0
