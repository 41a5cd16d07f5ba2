"""The transports that take the place of kombu's, and the event loop that carries them.

(kombu/transport/redis.py, 5.4 to 5.7)
"""

from contextlib import suppress
from functools import wraps
from typing import Any

from kombu.transport import redis as stock

from celeriac.transport import channel
from celeriac.transport.full import Mixin
from celeriac.transport.poller import Poller


class _Transport(Mixin):
    """What is different in a transport."""

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
            loop.call_repeatedly(channel.SCAN_SECONDS, self._scan),
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
        wait = getattr(poller.poll, "__wrapped__", poller.poll)

        @wraps(wait)
        def poll(timeout: float) -> Any:
            events = wait(timeout)
            for each in self.cycle._channels:
                if each.uses_script and each.holder.name and not each.holder.is_valid():
                    with suppress(*self.connection_errors):
                        each.ensure_lease()
            return events

        poller.poll = poll

    def _scan(self) -> None:
        for each in self.cycle._channels:
            if each.active_queues:
                with suppress(*self.connection_errors):
                    each.scan()
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
    Channel = channel.Channel


if hasattr(stock, "SentinelChannel"):

    class SentinelTransport(_Transport, stock.SentinelTransport):
        """In the place of kombu's for ``sentinel://``."""

        brpop_timeout = Transport.brpop_timeout
        Channel = channel.SentinelChannel
