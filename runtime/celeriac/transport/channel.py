"""A channel that takes a message and notes who has it in one step.

kombu pops a message with BRPOP and notes it in ``unacked`` in the next round trip: what a worker
has popped and not noted yet exists nowhere but in a socket. Here one script does both, in a turn of
the worker (``lua/turn.lua``), and says in passing what has ended. An answer that does not arrive is
noted all the same: this process requeues it when it connects again.

Left to kombu: fanout, queues that are consumed without acknowledgement (replies), and publishing.
(kombu/transport/redis.py, 5.4 to 5.7)
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty
from time import monotonic
from typing import Any

import redis
from kombu.transport import redis as stock
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from celeriac.transport.full import WhenFull
from celeriac.transport.holder import LEASE_SECONDS, Holder, clock, holder_of
from celeriac.transport.qos import QoS
from celeriac.transport.recovery import DELIVERIES, Keys, Recovery
from celeriac.transport.scripts import TURN
from celeriac.transport.waking import CALLED, WAKE, Sleeping, Waking, call

# Of a long queue so many messages are taken in one turn, if there is room for them.
BATCH = 10
# Between two scans for holders that are gone.
SCAN_SECONDS = 1.0
# What is asked beside the messages is answered so soon, or asked again so much later: the event
# loop stands still meanwhile.
QUICK_SECONDS = 2.0
AGAIN_SECONDS = 5.0
# An event loop that turned so recently will turn again, and say what is acknowledged.
TURNS_SECONDS = 0.1
# What can be set in `broker_transport_options`, beside what kombu has.
OPTIONS = ("lease_seconds", "deliveries")

# Called with the tags of what is not this process's any more, because its lease was lost.
on_lease_lost: list[Callable[[set[str]], None]] = []
# Called with a message that was parked, as kombu has it, the reason and how often it did not end.
on_parked: list[Callable[[dict[str, Any], str, int], None]] = []


@dataclass(frozen=True)
class _Lists:
    """The lists of some queues: their keys, the queue of each, the places of those without acknowledgement."""

    queues: tuple[str, ...]
    keys: list[str]
    queue_of: dict[str, str]
    no_ack: str


class _Channel(WhenFull):
    """What is different in a channel.

    Attributes:
        uses_script: it takes messages by the script, not by BRPOP.
    """

    QoS = QoS

    # Where a project sets none: a half-open connection must not hold a process for ever.
    socket_timeout = 10.0
    socket_connect_timeout = 5.0
    socket_keepalive = True
    # Of kombu, where it has them: since 5.6 and 5.7.
    brpop_timeout = 1
    unacked_restore_interval = 10
    lease_seconds = LEASE_SECONDS
    deliveries = DELIVERIES

    uses_script = False
    _asked_as = ""
    _lists_asked = _Lists((), [], {}, "")
    _acks_under_way: tuple[str, ...] = ()  # with the question under way
    _popped: list[tuple[str, Any]]  # and not delivered yet: queue, message
    _scan_at = 0.0
    _lease_retry_at = 0.0
    _restored = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._no_ack_queues: set[str] = set()  # queues that are consumed without acknowledgement
        self._popped = []
        self._known_lists: dict[tuple[str, ...], _Lists] = {}
        self.waking = Waking(self)
        super().__init__(*args, **kwargs)
        self._connected = self._refreshed = clock()
        # Needed when the connection has gone, too.
        keys = Keys(
            self.global_keyprefix,
            self.global_keyprefix + self.unacked_key,
            self.global_keyprefix + self.unacked_index_key,
        )
        client = self._quick_client()
        self.holder = holder_of(
            _broker(self.connection.client, self.global_keyprefix),
            lambda: Holder(client, self.global_keyprefix, self.lease_seconds),
        )
        self.recovery = Recovery(client, keys, self.holder, self.deliveries)
        self.recovery.on_parked = _on_parked

    def _quick_client(self) -> "redis.Redis":
        """Return a client with keys as they are, over connections that do not wait long."""
        usual = self.socket_timeout, self.socket_connect_timeout
        self.socket_timeout = self.socket_connect_timeout = QUICK_SECONDS
        try:
            return redis.Redis(connection_pool=self._get_pool())
        finally:
            self.socket_timeout, self.socket_connect_timeout = usual

    # What the event loop and the QoS need.

    def is_turning(self) -> bool:
        """Return whether an event loop turns in this thread, and says soon what is acknowledged."""
        if not (self.uses_script and self._active_queues and self.connection and self.connection.loop):
            return False
        at, thread = self.connection.cycle.last
        return bool(thread == threading.get_ident() and monotonic() < at + TURNS_SECONDS)

    def on_turn(self) -> None:
        """Send acknowledgements, and call others, where no question does."""
        if self.holder.acks and not self._in_poll:
            self.send_acks()
        if self._active_queues:
            with suppress(*self.connection_errors):
                self.waking.call_if_full(self.qos.can_consume(), self._lists_asked.queues)
                self.waking.share_watch(self._lists_asked.queues)

    def send_acks(self) -> None:
        """Send what is acknowledged. What does not get through is sent over the next connection."""
        with suppress(*self.connection_errors):
            self.holder.acknowledge(self.recovery.keys.unacked, self.recovery.keys.index)

    def ensure_lease(self) -> None:
        """Ensure that this process has its lease; if it was lost, tell who must know."""
        waits = self.holder.name and clock() < self._lease_retry_at
        if self.holder.is_valid() or waits:
            return
        self._lease_retry_at = clock() + AGAIN_SECONDS  # if this fails
        lost = self.holder.renew()
        self._lease_retry_at = 0.0
        if lost is not None:
            for listener in on_lease_lost:
                listener(lost)

    def scan(self) -> None:
        """Scan for holders that are gone, from time to time.

        When Redis was away for everybody, everybody's lease has run out: a new connection waits
        for one time to live before it believes a lease. A death that can be seen is one at once.
        """
        if not self.active_queues or clock() < self._scan_at:
            return
        self._scan_at = clock() + AGAIN_SECONDS  # if this fails
        self.waking.renew_membership(self.active_queues)
        self.recovery.scan(by_lease=clock() > self._connected + self.lease_seconds)
        self._scan_at = clock() + SCAN_SECONDS
        if clock() > self._refreshed + self.visibility_timeout / 3:
            self._refreshed = clock()
            self.recovery.refresh()

    def may_restore(self, visibility_timeout: float, interval: int) -> bool:
        """Return whether it is time to look for what is old."""
        pause = min(visibility_timeout / 2, self.unacked_restore_interval * (interval or 1))
        if clock() < self._restored + pause:
            return False
        self._restored = clock()
        return True

    # kombu's methods.

    def basic_consume(self, queue: str, no_ack: bool = False, *args: Any, **kwargs: Any) -> Any:
        """Consume a queue."""
        (self._no_ack_queues.add if no_ack else self._no_ack_queues.discard)(queue)
        self._known_lists.clear()
        self.waking.change_team()
        consumer = super().basic_consume(queue, no_ack, *args, **kwargs)
        if queue in self.active_fanout_queues and self.connection.loop is not None:
            # Now, not in the first turn: a worker that says it is ready hears what is said to all.
            self.connection.cycle._register_LISTEN(self)
        return consumer

    def _basic_cancel(self, consumer_tag: str) -> Any:
        if self.uses_script and self.do_restore:
            self.send_acks()
            with suppress(*self.connection_errors):
                self.waking.leave(self._lists_asked.queues)
        return super()._basic_cancel(consumer_tag)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Return a message of a queue, None if there is none."""
        if no_ack or not self.ack_emulation:
            return super().basic_get(queue, no_ack, **kwargs)
        with self.holder.lock:
            self.ensure_lease()
            lists = self._lists([queue], no_ack=False)
            client = redis.Redis(connection_pool=self.pool)
            keys, question = self._question(lists, 1)
            answer = TURN(client, *question, keys=keys)
            messages = self._take(answer, lists)
        if hasattr(super(), "_maybe_update_queues_expire"):  # of kombu 5.7
            self._maybe_update_queues_expire(self._create_client(), queue)
        if not messages:
            return None
        message = self.Message(messages[0][1], channel=self)
        self.qos.append(message, message.delivery_tag)
        return message

    def _brpop_start(self, timeout: float | None = None) -> None:
        queues = self._queue_cycle.consume(len(self.active_queues))
        self.uses_script = self.ack_emulation and not self._no_ack_queues.issuperset(queues)
        if not self.uses_script:
            super()._brpop_start(timeout)
            return
        if self._popped:
            self._deliver_popped()
        connection = self.client.connection
        if not self.waking.is_set_up(connection):
            self._set_up(connection)
        elif self.waking.is_quiet():
            return
        self.ensure_lease()
        self._acks_under_way = self._acks_to_send()
        self._lists_asked = lists = self._lists(queues)
        room = self.qos.can_consume_max_estimate()
        # With several queues, each turn is another one's.
        wanted = 1 if len(queues) > 1 else BATCH if room is None else min(room, BATCH)
        watches, sleeps = self.waking.watches, self.waking.on_question(lists.queues)
        keys, question = self._question(lists, wanted, watches=watches, sleeps=sleeps)
        self._asked_as = self.holder.name
        self._in_poll = connection
        self._brpop_sent_at = monotonic()
        connection.send_command("EVALSHA", TURN.sha, len(keys), *keys, *question, *self._acks_under_way)

    def _brpop_read(self, **options: Any) -> Any:
        if not self.uses_script:
            return super()._brpop_read(**options)
        connection = self.client.connection
        try:
            answer = self._answer(connection, options)
            self.holder.acks_sent(list(self._acks_under_way))
            if answer == CALLED:
                self.waking.was_called()
                raise Empty
            if not answer:
                self.waking.nothing_found(sleeps=answer is not None)
                raise Empty
            self.waking.found(all_of_it=bool(answer[-1]))
            self._popped += self._take(answer, self._lists_asked)
        finally:
            self._in_poll = None
            self._acks_under_way = ()
            if hasattr(super(), "_flush_brpop_reauth"):
                self._flush_brpop_reauth()
        self._deliver_popped()
        return True

    def _poll_error(self, type: str, **options: Any) -> Any:
        if type == WAKE:
            self.waking.on_invalidation()
        return super()._poll_error(type, **options)

    def close(self) -> None:
        """Close it; acknowledgements not sent yet are, unless the connection is lost (`do_restore`)."""
        if not self.closed:
            if self.do_restore:
                self.send_acks()
            else:
                self._in_poll = None  # kombu would deliver an answer that is there to nobody
            self._requeue_popped()
        super().close()

    def _close_clients(self) -> None:
        super()._close_clients()
        self.waking.close()

    # Questions and their answers.

    def _lists(self, queues: list[str], *, no_ack: bool | None = None) -> "_Lists":
        """Return the lists of queues, in the order in which they are looked at.

        Args:
            queues: their names.
            no_ack: whether they are consumed without acknowledgement, if that is not known.
        """
        names = tuple(queues)
        found = self._known_lists.get(names) if no_ack is None else None
        if found is None:
            lists = [(queue, step) for step in self.priority_steps for queue in queues]
            keys = [self.global_keyprefix + self._q_for_pri(*each) for each in lists]
            unnoted = self._no_ack_queues if no_ack is None else set()
            found = _Lists(
                names,
                keys,
                {key: queue for key, (queue, _) in zip(keys, lists, strict=True)},
                "".join(f"{n} " for n, (queue, _) in enumerate(lists, 1) if queue in unnoted),
            )
            if no_ack is None:
                self._known_lists[names] = found
        return found

    def _question(
        self,
        lists: "_Lists",
        wanted: int,
        *,
        watches: bool = False,
        sleeps: Sleeping | None = None,
    ) -> tuple[list[str], list[Any]]:
        """Return the keys and the arguments of a turn, but for what is acknowledged.

        Args:
            lists: from which to take.
            wanted: how many messages at most.
            watches: whether to watch the lists, if what is taken is all that is in them.
            sleeps: see `Waking.on_question`.
        """
        keys, holder = self.recovery.keys, self.holder
        question = [
            holder.lease, keys.unacked, keys.index, holder.held, next(holder.numbers), wanted,
            lists.no_ack, holder.now(),
        ]  # fmt: skip
        if sleeps is None:
            return lists.keys, [*question, "", "", int(watches), "", 0]
        question += [sleeps.holder, sleeps.sleepers, int(sleeps.told), sleeps.team]
        return [sleeps.call], [*question, len(lists.keys), *lists.keys]

    def _acks_to_send(self) -> tuple[str, ...]:
        """Return what can be acknowledged with a question: what was taken as this holder."""
        acks, name = [*self.holder.acks.items()], self.holder.name
        if any(taken_as != name for _, taken_as in acks):
            self.send_acks()
            return ()
        return tuple(tag for tag, _ in acks)

    def _answer(self, connection: Any, options: dict[str, Any]) -> Any:
        try:
            return self.client.parse_response(connection, "EVALSHA", **options)
        except redis.exceptions.NoScriptError:
            self.waking.invalidate()  # somebody has flushed the scripts
            raise Empty from None
        except redis.exceptions.ResponseError as error:
            if not str(error).startswith("NOLEASE"):
                raise
            self.holder.invalidate()
            raise Empty from None
        except self.connection_errors:
            connection.disconnect()
            raise

    def _take(self, answer: Any, lists: "_Lists") -> list[tuple[str, Any]]:
        """Return the queues and messages of an answer; note what is this process's now."""
        found = []
        for key, message, tag in zip(*[iter((answer or [None])[:-1])] * 3, strict=True):
            name, tag = bytes_to_str(key), bytes_to_str(tag) if tag else ""
            try:
                content = loads(bytes_to_str(message))
            except ValueError:
                self.recovery.park_unreadable(tag, name, message)
                continue
            if tag:
                self.holder.mark_taken(tag)
            found.append((lists.queue_of[name], content))
        return found

    def _deliver_popped(self) -> None:
        while self._popped:
            queue, message = self._popped.pop(0)
            self._queue_cycle.rotate(queue)
            try:
                self.connection._deliver(message, queue)
            except BaseException:
                tag = message["properties"]["delivery_tag"]
                if tag not in self.qos._delivered:
                    self.holder.give_up(tag)
                raise

    def _requeue_popped(self) -> None:
        """Requeue what came in an answer, behind a message whose delivery has failed."""
        tags = [message["properties"]["delivery_tag"] for _, message in self._popped]
        self._popped.clear()
        if self.do_restore:
            with suppress(*self.connection_errors):
                self.recovery.requeue_own(tags)
        for tag in tags:
            self.holder.give_up(tag)

    def owns_answer(self) -> bool:
        """Return whether the answer that waits is this process's.

        While it stood still it may have lost its lease, and with it what the answer brings.
        """
        self.ensure_lease()
        if self._asked_as == self.holder.name:
            return True
        self.client.connection.disconnect()
        return False

    def _set_up(self, connection: Any) -> None:
        """Prepare a new connection, and see to what the last one left."""
        call(connection, "SCRIPT", "LOAD", TURN.text)
        self.waking.set_up(connection)
        self.holder.client = self._quick_client()
        self.ensure_lease()
        self.send_acks()
        self.recovery.requeue_forgotten()
        self._scan_at = 0.0
        self.scan()

    def on_hangup(self) -> None:
        """Disconnect: without a question under way the server is gone, or does not track any more."""
        self.client.connection.disconnect()
        raise redis.exceptions.ConnectionError("Redis has closed the connection")


def _on_parked(message: dict[str, Any], reason: str, times: int) -> None:
    for listener in on_parked:
        listener(message, reason, times)


def _broker(connection: Any, prefix: str) -> tuple[Any, ...]:
    """Return what tells one broker from another, by whichever of its URLs it is reached.

    Args:
        connection: of kombu.
        prefix: of all keys.
    """
    options = connection.transport_options or {}
    urls = tuple(connection.alt) or (connection.as_uri(),)
    return *urls, connection.virtual_host, options.get("master_name"), prefix


class Channel(_Channel, stock.Channel):
    """A channel to one server."""

    from_transport_options = (*stock.Channel.from_transport_options, *OPTIONS)


if hasattr(stock, "SentinelChannel"):

    class SentinelChannel(_Channel, stock.SentinelChannel):
        """A channel to the master that Sentinel knows."""

        from_transport_options = (*stock.SentinelChannel.from_transport_options, *OPTIONS)
