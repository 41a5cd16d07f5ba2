"""Waits for the connections of all channels.

Source: kombu/transport/redis.py, 5.4 to 5.7.
"""

import threading
from time import monotonic
from typing import Any

from kombu.transport import redis as stock

from celeriac.transport.waking import WAKE


class Poller(stock.MultiChannelPoller):
    """Knows one more kind of connection, and that nothing may come for a while.

    Attributes:
        last: when it turned last (`monotonic`), and in which thread.
    """

    last = 0.0, 0

    def on_poll_start(self) -> None:
        """Ask, and send what could not be sent with a question."""
        self.last = monotonic(), threading.get_ident()
        super().on_poll_start()
        for channel in self._channels:
            if channel.uses_script:
                channel.on_turn()

    def on_readable(self, fileno: int) -> Any:
        """Read an answer, or learn that it is time to ask."""
        channel, kind = self._fd_to_chan.get(fileno, (None, None))
        if channel is None:
            return None
        if kind == WAKE:
            channel.waking.on_invalidation()
        if kind == "BRPOP" and channel.uses_script:
            if not channel._in_poll:
                channel.on_hangup()
            elif not channel.owns_answer():
                return None
        return super().on_readable(fileno)

    def get(self, callback: Any, timeout: float | None = None) -> Any:
        """Wait for one event, without an event loop."""
        asking = [channel for channel in self._channels if channel.uses_script]
        for channel in asking:
            channel.ensure_lease()
        pauses = [channel.waking.pause() for channel in asking]
        if timeout is not None:
            pauses.append(timeout)
        return super().get(callback, min(pauses, default=None))
