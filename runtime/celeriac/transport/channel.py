"""kombu's Redis transport, with channels that take and note in one step.

kombu pops a message with BRPOP and notes it in ``unacked`` in the next round trip: what a worker
has popped and not noted yet exists nowhere but in a socket. Here one script does both, in a turn of
the worker (``lua/turn.lua``), and says in passing what has ended.

A script cannot wait. So the connection that asks is *tracked*: a turn that finds all lists empty
has read them, and Redis tells a second connection as soon as one of them changes, once. Whatever
can be read there means "ask again". All who wait are told, and one gets the message: who has lost
that race lately asks a moment later. Without news a channel asks each second, as BRPOP does, so the
news decide on latency alone.

Left to kombu: fanout, queues that are consumed without acknowledgement (replies), and publishing.
(kombu/transport/redis.py, 5.4 to 5.7; https://redis.io/docs/latest/commands/client-tracking/)
"""

import logging
import os
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty
from time import monotonic
from typing import Any

import redis
from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

from celeriac.transport.holder import LEASE_SECONDS, Holder, clock, holder_of
from celeriac.transport.recovery import DELIVERIES, Keys, Recovery
from celeriac.transport.scripts import BIND, PUSH, TURN

WAKE = "WAKE"
# Of a long queue so many messages are taken in one turn, if there is room for them.
BATCH = 10
# Who was woken in vain so often asks so much later, at random: see `Channel._woken_up`.
MOST_LOSSES = 4
LATER_SECONDS = 0.002
# Between two looks for holders that are gone.
LOOK_SECONDS = 1.0
# An event loop that turned so recently will turn again, and say what is acknowledged.
TURNS_SECONDS = 0.1
# Messages of nobody that are given back at once.
ORPHANS = 100
NO_KEY = "celeriac.none"

# Called with the tags of what is not this process's any more, because its lease was lost.
on_lost: list[Callable[[set[str]], None]] = []
# Called with a message that was parked, as kombu has it, the reason and how often it did not end.
on_parked: list[Callable[[dict[str, Any], str, int], None]] = []

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Lists:
    """The lists of some queues: their keys, the queue of each, the places of those not noted."""

    keys: list[str]
    queue_of: dict[str, str]
    unnoted: str


class QoS(stock.QoS):
    """What a channel was given and has not acknowledged.

    What this process holds is its own whatever becomes of the connection (`Holder`).
    """

    def append(self, message: Any, delivery_tag: str) -> None:
        """Keep a message; the script has noted it already."""
        if delivery_tag in self.channel.holder.taken:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, with the next turn if one comes soon."""
        holder = self.channel.holder
        if delivery_tag in holder.given_up:
            virtual.QoS.ack(self, delivery_tag)
            return
        name = holder.taken.pop(delivery_tag, None)
        if name is None:
            super().ack(delivery_tag)
            return
        holder.unfinished.pop(delivery_tag, None)
        holder.acks[delivery_tag] = name
        virtual.QoS.ack(self, delivery_tag)
        if not self.channel.turns():
            self.channel.say_acks()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Acknowledge a message, or put it behind the others."""
        if delivery_tag in self.channel.holder.taken and requeue:
            self.restore_by_tag(delivery_tag, leftmost=True)
            virtual.QoS.ack(self, delivery_tag)
        elif delivery_tag in self.channel.holder.taken or not requeue:
            self.ack(delivery_tag)
        elif delivery_tag in self.channel.holder.given_up:
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().reject(delivery_tag, requeue)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Give a message back."""
        holder = self.channel.holder
        if tag in holder.taken:
            reason = holder.unfinished.pop(tag, "")
            self.channel.recovery.give_back_own([tag], reason=reason, last=leftmost)
        elif tag not in holder.given_up:
            super().restore_by_tag(tag, client, leftmost)

    def restore_unacked(self, client: Any = None) -> None:
        """Give everything back: the channel is closed."""
        self._flush()
        holder = self.channel.holder
        tags = [tag for tag in self._delivered if tag in holder.taken]
        others = [tag for tag in self._delivered if tag not in holder.taken]
        self._delivered.clear()
        self.channel.recovery.give_back_own(tags)
        for tag in others:
            self.restore_by_tag(tag)

    def restore_visible(self, start: int = 0, num: int | None = 10, interval: int = 10) -> None:
        """Give back what is old, and nobody's: it was a worker's that has no lease."""
        channel = self.channel
        channel.look()
        if channel.may_restore(self.visibility_timeout, interval):
            for tag in channel.recovery.orphans(self.visibility_timeout, num or ORPHANS):
                super().restore_by_tag(tag)


class Poller(stock.MultiChannelPoller):
    """Knows one more kind of connection, and that nothing may come for a while.

    Attributes:
        turned: when it turned last (`monotonic`), and in which thread.
    """

    turned = 0.0, 0

    def on_poll_start(self) -> None:
        """Ask, and say what could not be said with a question."""
        self.turned = monotonic(), threading.get_ident()
        super().on_poll_start()
        for channel in self._channels:
            if channel.asks and channel.holder.acks and not channel._in_poll:
                channel.say_acks()

    def on_readable(self, fileno: int) -> Any:
        """Read an answer, or learn that it is time to ask."""
        channel, kind = self._fd_to_chan.get(fileno, (None, None))
        if channel is None:
            return None
        if kind == WAKE:
            channel.woken_up()
        if kind == "BRPOP" and channel.asks:
            if not channel._in_poll:
                channel.hung_up()
            elif not channel.is_still_asking():
                return None
        return super().on_readable(fileno)

    def get(self, callback: Any, timeout: float | None = None) -> Any:
        """Wait for one event, without an event loop."""
        asking = [channel for channel in self._channels if channel.asks]
        for channel in asking:
            channel.settle()
        pauses = [channel.pause() for channel in asking]
        if timeout is not None:
            pauses.append(timeout)
        return super().get(callback, min(pauses, default=None))


# What is changed stands before kombu's class, and there are two of these.
_Mixin: Any = object


class _Channel(_Mixin):
    """What is different in a channel.

    Attributes:
        asks: it takes messages by the script, not by BRPOP.
    """

    QoS = QoS

    # Where a project sets none: a half-open connection must not hold a process for ever.
    socket_timeout = 10
    socket_connect_timeout = 5
    socket_keepalive = True
    # Of kombu, where it has them: since 5.6 and 5.7.
    brpop_timeout = 1
    unacked_restore_interval = 10
    lease_seconds = LEASE_SECONDS
    deliveries = int(os.environ.get("CELERIAC_TASK_DELIVERIES", DELIVERIES))

    asks = False
    _asked_as = ""
    _said: tuple[str, ...] = ()  # with the question under way
    _popped: list[tuple[str, Any]]  # and not delivered yet: queue, message
    _wake: Any = None
    _tracked: Any = None  # the sockets for which tracking is set up
    _woken = False  # since the last question,
    _was_woken = False  # and before it
    _losses = 0
    _quiet_until = 0.0
    _looked = 0.0
    _restored = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._unnoted: set[str] = set()  # queues that are consumed without acknowledgement
        self._popped = []
        self._known_lists: dict[tuple[str, ...], _Lists] = {}
        super().__init__(*args, **kwargs)
        self._connected = self._refreshed = clock()
        # Needed when the connection has gone, too.
        keys = Keys(
            self.global_keyprefix,
            self.global_keyprefix + self.unacked_key,
            self.global_keyprefix + self.unacked_index_key,
        )
        client = redis.Redis(connection_pool=self.pool)
        self.holder = holder_of(
            f"{self.connection.client.as_uri()} {self.global_keyprefix}",
            lambda: Holder(client, self.global_keyprefix, self.lease_seconds),
        )
        self.recovery = Recovery(client, keys, self.holder, self.deliveries)
        self.recovery.parks = _say_parked

    # What the event loop and the QoS need.

    def turns(self) -> bool:
        """Return whether an event loop turns in this thread, and says soon what is acknowledged."""
        if not (self.asks and self._active_queues and self.connection and self.connection.loop):
            return False
        at, thread = self.connection.cycle.turned
        return bool(thread == threading.get_ident() and monotonic() < at + TURNS_SECONDS)

    def say_acks(self) -> None:
        """Say what is acknowledged. What does not get through is said over the next connection."""
        with suppress(*self.connection_errors):
            self.holder.acknowledge(self.recovery.keys.unacked, self.recovery.keys.index)

    def settle(self) -> None:
        """See to it that this process has its lease; if it was lost, tell who must know."""
        if self.holder.is_sure():
            return
        lost = self.holder.renew()
        if lost is not None:
            for listener in on_lost:
                listener(lost)

    def look(self) -> None:
        """Look for holders that are gone, from time to time.

        When Redis was away for everybody, everybody's lease has run out: a new connection waits
        for one time to live before it believes a lease. A death that can be seen is one at once.
        """
        if not self.active_queues or clock() < self._looked + LOOK_SECONDS:
            return
        self._looked = clock()
        self.recovery.look(by_lease=clock() > self._connected + self.lease_seconds)
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

    def pause(self) -> float:
        """Return for how long nothing need be asked, in seconds."""
        pause = float(self.brpop_timeout or 1)
        return min(pause, max(self._quiet_until - monotonic(), 0.001)) if self._woken else pause

    # kombu's methods.

    def basic_consume(self, queue: str, no_ack: bool = False, *args: Any, **kwargs: Any) -> Any:
        """Consume a queue."""
        (self._unnoted.add if no_ack else self._unnoted.discard)(queue)
        self._known_lists.clear()
        self._quiet_until = 0.0
        consumer = super().basic_consume(queue, no_ack, *args, **kwargs)
        if queue in self.active_fanout_queues and self.connection.loop is not None:
            # Now, not in the first turn: a worker that says it is ready hears what is said to all.
            self.connection.cycle._register_LISTEN(self)
        return consumer

    def _basic_cancel(self, consumer_tag: str) -> Any:
        self.say_acks()
        return super()._basic_cancel(consumer_tag)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Return a message of a queue, None if there is none."""
        if no_ack or not self.ack_emulation:
            return super().basic_get(queue, no_ack, **kwargs)
        with self.holder.lock:
            self.settle()
            lists = self._lists([queue], no_ack=False)
            client = redis.Redis(connection_pool=self.pool)
            answer = TURN(client, *self._question(lists, 1), keys=lists.keys)
            messages = self._take(answer, lists)
        self._maybe_update_queues_expire(self._create_client(), queue)
        if not messages:
            return None
        message = self.Message(messages[0][1], channel=self)
        self.qos.append(message, message.delivery_tag)
        return message

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)
        except self.ResponseError as error:
            if not _is_full(error):
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
            if not _is_full(error) or not message.get("headers", {}).get("retries"):
                raise
            key = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
            client = redis.Redis(connection_pool=self.pool)
            prefix = self.global_keyprefix
            PUSH(client, prefix + key, dumps(message), prefix + NO_KEY)

    def _brpop_start(self, timeout: float | None = None) -> None:
        queues = self._queue_cycle.consume(len(self.active_queues))
        self.asks = self.ack_emulation and not self._unnoted.issuperset(queues)
        if not self.asks:
            super()._brpop_start(timeout)
            return
        if self._popped:
            self._deliver_popped()
        connection = self.client.connection
        if self._tracked != (connection._sock, self._wake and self._wake.connection._sock):
            self._set_up()
        elif monotonic() < self._quiet_until and not self.holder.acks:
            return
        self.settle()
        self._said = self._sayable()
        self._lists_asked = lists = self._lists(queues)
        room = self.qos.can_consume_max_estimate()
        # With several queues, each turn is another one's.
        wanted = 1 if len(queues) > 1 else BATCH if room is None else min(room, BATCH)
        question = self._question(lists, wanted)
        self._was_woken, self._woken = self._woken, False
        self._asked_as = self.holder.name
        self._in_poll = connection
        self._brpop_sent_at = monotonic()
        connection.send_command(
            "EVALSHA", TURN.sha, len(lists.keys), *lists.keys, *question, *self._said
        )

    def _brpop_read(self, **options: Any) -> Any:
        if not self.asks:
            return super()._brpop_read(**options)
        connection = self.client.connection
        try:
            answer = self._answer(connection, options)
            self.holder.said(list(self._said))
            if not answer:
                self._lost_race()
                raise Empty
            if not self._woken and 0 < self._quiet_until < monotonic():
                self._tracked = None  # nobody has told us
            self._quiet_until, self._losses = 0.0, 0
            self._popped += self._take(answer, self._lists_asked)
        finally:
            self._in_poll = None
            self._said = ()
            if hasattr(super(), "_flush_brpop_reauth"):
                self._flush_brpop_reauth()
        self._deliver_popped()
        return True

    def _poll_error(self, type: str, **options: Any) -> Any:
        if type == WAKE:
            self.woken_up()
        return super()._poll_error(type, **options)

    def close(self) -> None:
        """Close it; what was not said yet is said."""
        if not self.closed:
            self.say_acks()
            self._give_up_popped()
        super().close()

    def _close_clients(self) -> None:
        super()._close_clients()
        wake, self._wake = self._wake, None
        if wake is not None and wake.connection is not None:
            wake.connection.disconnect()

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
            unnoted = self._unnoted if no_ack is None else set()
            found = _Lists(
                keys,
                {key: queue for key, (queue, _) in zip(keys, lists, strict=True)},
                "".join(f"{n} " for n, (queue, _) in enumerate(lists, 1) if queue in unnoted),
            )
            if no_ack is None:
                self._known_lists[names] = found
        return found

    def _question(self, lists: "_Lists", wanted: int) -> list[Any]:
        """Return the arguments of a turn, but for its keys and what is acknowledged."""
        keys, holder = self.recovery.keys, self.holder
        number = next(holder.numbers)
        return [
            holder.lease, keys.unacked, keys.index, holder.held, number, wanted, lists.unnoted
        ]  # fmt: skip

    def _sayable(self) -> tuple[str, ...]:
        """Return what can be acknowledged with a question: what was taken as this holder."""
        acks, name = [*self.holder.acks.items()], self.holder.name
        if any(taken_as != name for _, taken_as in acks):
            self.say_acks()
            return ()
        return tuple(tag for tag, _ in acks)

    def _answer(self, connection: Any, options: dict[str, Any]) -> Any:
        try:
            return self.client.parse_response(connection, "EVALSHA", **options)
        except redis.exceptions.NoScriptError:
            self._tracked = None  # somebody has flushed the scripts
            raise Empty from None
        except redis.exceptions.ResponseError as error:
            if not str(error).startswith("NOLEASE"):
                raise
            self.holder.doubt()
            raise Empty from None
        except self.connection_errors:
            connection.disconnect()
            raise

    def _take(self, answer: Any, lists: "_Lists") -> list[tuple[str, Any]]:
        """Return the queues and messages of an answer; note what is this process's now."""
        found = []
        for key, message, tag in zip(*[iter(answer or ())] * 3, strict=True):
            name, tag = bytes_to_str(key), bytes_to_str(tag) if tag else ""
            try:
                content = loads(bytes_to_str(message))
            except ValueError:
                self.recovery.park_unreadable(tag, name, message)
                continue
            if tag:
                self.holder.note(tag)
            found.append((lists.queue_of[name], content))
        return found

    def _lost_race(self) -> None:
        """Note that there is nothing; wait to be told, unless somebody already has."""
        if self._was_woken:
            self._losses = min(self._losses + 1, MOST_LOSSES)
        # The event loop turns by itself that often: a little less, or every second turn asks.
        pause = 0.9 * (self.brpop_timeout or 1)
        self._quiet_until = 0.0 if self._woken else monotonic() + pause

    def _deliver_popped(self) -> None:
        while self._popped:
            queue, message = self._popped.pop(0)
            self._queue_cycle.rotate(queue)
            self.connection._deliver(message, queue)

    def _give_up_popped(self) -> None:
        """Give back what came in an answer, behind a message whose delivery has failed."""
        tags = [message["properties"]["delivery_tag"] for _, message in self._popped]
        self._popped.clear()
        if self.do_restore:
            with suppress(*self.connection_errors):
                self.recovery.give_back_own(tags)
        for tag in tags:
            self.holder.give_up(tag)

    def is_still_asking(self) -> bool:
        """Return whether the answer that waits is this process's.

        While it stood still it may have lost its lease, and with it what the answer brings.
        """
        self.settle()
        if self._asked_as == self.holder.name:
            return True
        self.client.connection.disconnect()
        return False

    # Being told.

    def _set_up(self) -> None:
        """Prepare a new connection: for the script, for being woken, for what the last one lost."""
        cycle = self.connection.cycle
        if self._wake is None:
            self._wake = self._create_client(asynchronous=True)
        if self._wake.connection is not None:
            self._wake.connection.disconnect()
        cycle._client_registered(self, self._wake, WAKE)
        cycle._register(self, self._wake, WAKE)
        wake, connection = self._wake.connection, self.client.connection
        _call(connection, "SCRIPT", "LOAD", TURN.text)
        try:
            number = _call(wake, "CLIENT", "ID")
            wake.send_command("SUBSCRIBE", "__redis__:invalidate")  # the answer wakes up once
            _call(connection, "CLIENT", "TRACKING", "ON", "REDIRECT", number)
        except self.ResponseError as error:
            _log.warning(
                "Redis does not say when a message comes: up to %s s later: %s",
                self.brpop_timeout,
                error,
            )
        self._tracked = connection._sock, wake._sock
        self.holder.client = redis.Redis(connection_pool=self.pool)
        self.settle()
        self.say_acks()
        self.recovery.forgotten()
        self._looked = 0.0
        self.look()

    def woken_up(self) -> None:
        """Note that there is something, and when to ask for it."""
        self._woken = True
        self._quiet_until = 0.0
        if self._losses > 1:
            later = random.random() * (self._losses - 1) * LATER_SECONDS
            self._quiet_until = monotonic() + later
            self.connection.wake_later(later)
        connection = self._wake.connection
        try:
            heard = connection._sock.recv(65536)
        except TimeoutError:
            heard = b" "
        except OSError:
            heard = b""
        if not heard:
            connection.disconnect()
        raise Empty

    def hung_up(self) -> None:
        """Without a question there is no answer: the server is gone, or does not track any more."""
        self.client.connection.disconnect()
        raise redis.exceptions.ConnectionError("Redis has closed the connection")


def _say_parked(message: dict[str, Any], reason: str, times: int) -> None:
    for listener in on_parked:
        listener(message, reason, times)


def _call(connection: Any, *command: Any) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def _is_full(error: Exception) -> bool:
    return "maxmemory" in str(error) or str(error).startswith("OOM")


class Channel(_Channel, stock.Channel):
    """A channel to one server."""

    from_transport_options = (
        *stock.Channel.from_transport_options,
        "lease_seconds",
        "deliveries",
    )


class _Transport(_Mixin):
    loop: Any = None
    _timers: tuple[Any, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let an event loop carry the connection."""
        before = set(loop.on_tick)
        super().register_with_event_loop(connection, loop)
        self._stop_timers()
        self.loop = loop
        self._timers = (
            # The event loop asks Redis once in a turn, and turns only when something happens.
            loop.call_repeatedly(self.brpop_timeout or 1, _nothing),
            loop.call_repeatedly(LOOK_SECONDS, self._look),
        )
        (turn,) = set(loop.on_tick) - before
        loop.on_tick.discard(turn)
        loop.on_tick.add(self._turn)
        self._ask_lease_first(loop.poller)

    def close_connection(self, connection: Any) -> None:
        """Close it with all its channels."""
        self._stop_timers()
        if self.loop is not None:
            self.loop.on_tick.discard(self._turn)
        super().close_connection(connection)

    def wake_later(self, seconds: float) -> None:
        """Let the event loop turn again by then."""
        if self.loop is not None:
            self.loop.call_later(seconds, _nothing)

    def _turn(self) -> None:
        # kombu adds each connection again in each turn, which costs two system calls for each.
        self.cycle.on_poll_start()
        # One that is there may be of a connection before, whose number was given out again.
        readers = self.loop.readers
        for fileno in self.cycle.fds:
            if fileno not in readers or readers[fileno][0] != self.on_readable:
                self.loop.add_reader(fileno, self.on_readable, fileno)

    def _ask_lease_first(self, poller: Any) -> None:
        """Ask for the lease before the first event that is handled after a standstill.

        A process that was stopped goes on with what it slept through: places are free, countdowns
        are over. Timers come later.
        """
        wait = poller.poll

        def poll(timeout: float) -> Any:
            events = wait(timeout)
            for channel in self.cycle._channels:
                if channel.asks and channel.holder.name and not channel.holder.is_sure():
                    with suppress(*self.connection_errors):
                        channel.settle()
            return events

        poller.poll = poll

    def _look(self) -> None:
        for channel in self.cycle._channels:
            if channel.active_queues:
                with suppress(*self.connection_errors):
                    channel.look()
                return

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers = ()


def _nothing() -> None:
    """Do nothing: that the event loop turns is enough."""


class Transport(_Transport, stock.Transport):
    """In the place of kombu's for ``redis://`` and ``rediss://``."""

    brpop_timeout = getattr(stock.Transport, "brpop_timeout", 1)
    Channel = Channel


if hasattr(stock, "SentinelChannel"):

    class SentinelChannel(_Channel, stock.SentinelChannel):
        """A channel to the master that Sentinel knows."""

        from_transport_options = (
            *stock.SentinelChannel.from_transport_options,
            "lease_seconds",
            "deliveries",
        )

    class SentinelTransport(_Transport, stock.SentinelTransport):
        """In the place of kombu's for ``sentinel://``."""

        brpop_timeout = Transport.brpop_timeout
        Channel = SentinelChannel
