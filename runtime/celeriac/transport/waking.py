"""When a channel asks for messages: it is told, by a second connection, that there are some.

A script cannot wait. So the connection that asks is *tracked*: a turn that finds all lists empty
has read them, and Redis tells the second connection as soon as one of them changes, once. Whatever
can be read there means "ask again"; nobody looks at what it says. The two connections are not in
step: the news may be read before the empty answer that it follows. So what counts is whether there
were any *since the question*.

All who wait are told, and one gets the message. Who has lost that race lately asks a moment later,
at random, and so finds out more at once. Without news a channel asks each second, as BRPOP does: so
the news decide on latency alone. (https://redis.io/docs/latest/commands/client-tracking/)
"""

import logging
import random
from queue import Empty
from time import monotonic
from typing import Any

WAKE = "WAKE"
# Who has lost the race so often asks so much later, at most.
MOST_LOSSES = 4
LATER_SECONDS = 0.002

_log = logging.getLogger(__name__)


class Waking:
    """Tells a channel when to ask."""

    def __init__(self, channel: Any) -> None:
        """Prepare it.

        Args:
            channel: whose connections these are.
        """
        self._channel = channel
        self._client: Any = None
        self._sockets: Any = None  # for which tracking is set up
        self._told = False  # since the last question,
        self._was_told = False  # and before it
        self._losses = 0
        self._quiet_until = 0.0

    def is_set_up(self, connection: Any) -> bool:
        """Return whether the connection that asks is tracked."""
        own = self._client and self._client.connection._sock
        return bool(self._sockets == (connection._sock, own))

    def set_up(self, connection: Any) -> None:
        """Have the connection that asks tracked, over a second one."""
        channel, cycle = self._channel, self._channel.connection.cycle
        if self._client is None:
            self._client = channel._create_client(asynchronous=True)
        if self._client.connection is not None:
            self._client.connection.disconnect()
        cycle._client_registered(channel, self._client, WAKE)
        cycle._register(channel, self._client, WAKE)
        own = self._client.connection
        try:
            number = call(own, "CLIENT", "ID")
            own.send_command("SUBSCRIBE", "__redis__:invalidate")  # the answer is news, once
            call(connection, "CLIENT", "TRACKING", "ON", "REDIRECT", number)
        except channel.ResponseError as error:
            pause = channel.brpop_timeout
            _log.warning("Redis does not tell of messages: up to %s s later: %s", pause, error)
        self._sockets = connection._sock, own._sock

    def doubt(self) -> None:
        """Have it set up anew."""
        self._sockets = None

    def hurry(self) -> None:
        """Let the next turn ask: something has changed here."""
        self._quiet_until = 0.0

    def is_quiet(self) -> bool:
        """Return whether there is nothing to ask for yet."""
        return monotonic() < self._quiet_until

    def pause(self) -> float:
        """Return for how long nothing need be asked, in seconds."""
        pause = float(self._channel.brpop_timeout or 1)
        return min(pause, max(self._quiet_until - monotonic(), 0.001)) if self._told else pause

    def asks(self) -> None:
        """Note that a question is sent."""
        self._was_told, self._told = self._told, False

    def nothing_found(self) -> None:
        """Note that all lists are empty."""
        if self._was_told:
            self._losses = min(self._losses + 1, MOST_LOSSES)
        # The event loop turns by itself that often: a little less, or every second turn asks.
        pause = 0.9 * (self._channel.brpop_timeout or 1)
        self._quiet_until = 0.0 if self._told else monotonic() + pause

    def found(self) -> None:
        """Note that there was a message."""
        if not self._told and not self._was_told and 0 < self._quiet_until < monotonic():
            self.doubt()  # nobody has told us
        self._quiet_until, self._losses = 0.0, 0

    def heard(self) -> None:
        """Read the news.

        Raises:
            Empty: always, to kombu: this was no message.
        """
        self._told, self._quiet_until = True, 0.0
        if self._losses > 1:
            later = random.random() * (self._losses - 1) * LATER_SECONDS
            self._quiet_until = monotonic() + later
            self._channel.connection.wake_later(later)
        connection = self._client.connection
        try:
            read = connection._sock.recv(65536)
        except TimeoutError:
            read = b" "
        except OSError:
            read = b""
        if not read:
            connection.disconnect()
        raise Empty

    def close(self) -> None:
        """Close the second connection."""
        client, self._client = self._client, None
        if client is not None and client.connection is not None:
            client.connection.disconnect()


def call(connection: Any, *command: Any) -> Any:
    """Send a command over a connection that has no other under way; return the answer."""
    connection.send_command(*command)
    return connection.read_response()
