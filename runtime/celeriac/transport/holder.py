"""This process as one that holds messages of a broker, as long as its lease lasts.

A lease is a key in Redis that runs out. A thread renews it, whatever the worker does: it waits for
a drain, or stands in a long turn of the event loop. A process that is killed or frozen does not.

A lease that has run out is not yet lost. Redis may have been away, and then those of all have run
out: a holder goes on unless somebody has taken something from it. If somebody has, the process
becomes another holder, with nothing, and is told what it had (`Holder.renew`).
"""

import itertools
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Hashable
from typing import Any

import redis

from celeriac import forks
from celeriac.transport import identity
from celeriac.transport.scripts import ACKNOWLEDGE, ACQUIRE, RENEW

# A key in Redis for each holder, and those with something about all of them.
LEASE = "celeriac.lease."
HELD = "celeriac.held."
HOLDERS = "celeriac.holders"

LEASE_SECONDS = 10.0
RENEW_SECONDS = 3.0
# So many tags of what was given up are kept: more than a process can have at once.
REMEMBERED = 100_000

_log = logging.getLogger(__name__)


def clock() -> float:
    """Return seconds of a clock that nobody sets, and that goes on while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Holder:
    """This process, at one broker.

    Attributes:
        name: by which Redis knows it; empty as long as it has taken nothing. Another one after a
            lease was lost.
        lease, held: the keys of its lease, and of what it holds.
        taken: what it has: the tag of each message, and the name under which it was taken.
        acks: acknowledgements that Redis may not know of yet, likewise.
        given_up: tags of what this process had and has no more. Whoever comes late to acknowledge
            one must not touch what may be another's by now.
        unfinished: why what was taken did not end here, by tag, until it is requeued.
        numbers: of its questions.
        lock: for what two threads must not do at once.
        client: to Redis, with keys as they are; of the newest connection that consumes.
    """

    def __init__(self, client: "redis.Redis", prefix: str, seconds: float = LEASE_SECONDS) -> None:
        """Prepare it.

        Args:
            client: see above.
            prefix: of all keys, kombu's ``global_keyprefix``.
            seconds: how long a lease lasts.
        """
        self.name = self.lease = self.held = ""
        self.taken: dict[str, str] = {}
        self.acks: dict[str, str] = {}
        self.given_up: dict[str, None] = {}
        self.unfinished: dict[str, str] = {}
        self.numbers = itertools.count(1)
        self.lock = threading.RLock()
        self.client = client
        self._prefix = prefix
        self._seconds = seconds
        self._until = 0.0
        self._ahead = 0.0  # Redis's clock, of ours
        self._renewal: threading.Thread | None = None

    def held_key(self, name: str) -> str:
        """Return the key of what a holder holds."""
        return f"{self._prefix}{HELD}{name}"

    def is_valid(self) -> bool:
        """Return whether nobody can have taken anything from it; this asks no server."""
        return clock() < self._until

    def invalidate(self) -> None:
        """Note that Redis has no lease of it: whether it is lost is to be asked."""
        self._until = 0.0

    def now(self) -> str:
        """Return the time as Redis has it, whatever this host's clock says."""
        return f"{clock() + self._ahead:.6f}"

    def acquire(self) -> None:
        """Become a new holder, and see to it that its lease is renewed."""
        name = uuid.uuid4().hex[:16]
        lease, held, began = f"{self._prefix}{LEASE}{name}", self.held_key(name), clock()
        holders = self._prefix + HOLDERS
        who = identity.own()
        at = ACQUIRE(self.client, lease, self._milliseconds, holders, name, who, held)
        self._set_clock(at)
        self.name, self.lease, self.held = name, lease, held
        self._until = began + self._seconds
        if self._renewal is None:
            self._renewal = threading.Thread(target=self._renew_for_ever, name="celeriac-lease", daemon=True)
            self._renewal.start()

    def renew(self) -> set[str] | None:
        """Renew the lease, or take the first one.

        Returns:
            None, or if the lease is lost the tags of all that was taken under it. They stay in
            `taken`, under the old name, which does no harm: what is another's by now is not
            acknowledged or requeued by that.
        """
        with self.lock:
            if not self.name:
                self.acquire()
                return None
            if self._renewed():
                return None
            _log.warning("the lease of %s is over: what has not begun here is another's", self.name)
            lost = {tag for tag, name in self.taken.items() if name == self.name}
            self.acquire()
            return lost

    def mark_taken(self, tag: str) -> None:
        """Note that a message was taken."""
        self.given_up.pop(tag, None)
        self.taken[tag] = self.name

    def give_up(self, tag: str) -> str | None:
        """Note that this process has a message no more; return as which holder it had it."""
        name = self.taken.pop(tag, None)
        if name is not None:
            self.given_up[tag] = None
            while len(self.given_up) > REMEMBERED:
                del self.given_up[next(iter(self.given_up))]
        return name

    def acknowledge(self, unacked: str, index: str) -> None:
        """Send the acknowledgements that were not sent yet.

        Args:
            unacked: kombu's key of what is taken.
            index: kombu's key of when.
        """
        with self.lock:
            acks = [*self.acks.items()]
            if acks:
                pairs = [each for tag, name in acks for each in (self.held_key(name), tag)]
                ACKNOWLEDGE(self.client, unacked, index, *pairs)
                self.acks_sent([tag for tag, _ in acks])

    def acks_sent(self, tags: list[str]) -> None:
        """Note that Redis knows of acknowledgements."""
        for tag in tags:
            self.acks.pop(tag, None)

    def _set_clock(self, at: tuple[int, int]) -> None:
        seconds, microseconds = at
        self._ahead = int(seconds) + int(microseconds) / 1e6 - clock()

    @property
    def _milliseconds(self) -> int:
        return int(self._seconds * 1000)

    def _renewed(self) -> bool:
        name, began = self.name, clock()
        renewed = RENEW(self.client, self.lease, self._milliseconds, self.held)
        if renewed:
            self._set_clock(renewed)
        if name == self.name:  # no other thread has become another holder
            self._until = began + self._seconds if renewed else 0.0
        return bool(renewed)

    def _renew_for_ever(self) -> None:
        """Renew. That a lease is lost is for the thread that consumes to see to: it asks again."""
        while True:
            pause = RENEW_SECONDS * self._seconds / LEASE_SECONDS
            try:
                with forks.turn():
                    self._renewed()
            except (redis.RedisError, OSError) as error:
                _log.debug("the lease could not be renewed, Redis is away: %r", error)
                pause = min(pause, 1.0)
            time.sleep(pause)


_holders: dict[Hashable, Holder] = {}


def holder_of(broker: Hashable, make: Callable[[], Holder]) -> Holder:
    """Return the holder that this process is at a broker; all its connections share it.

    Args:
        broker: what tells it from others.
        make: makes it.
    """
    found = _holders.get(broker)
    return found if found is not None else _holders.setdefault(broker, make())


def _forget(*_: Any) -> None:
    _holders.clear()


# A process of the pool is not the worker.
os.register_at_fork(after_in_child=_forget)
