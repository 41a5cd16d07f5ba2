"""When a channel asks for messages: it is told, by a second connection, that there are some.

A script cannot wait. So the connection that asks is *tracked*: a turn that finds all lists empty
has read them, and Redis tells the second connection as soon as one of them changes, once. Whatever
can be read there means "ask again", whatever it says. The two connections are not in
step: the news may be read before the empty answer that it follows. So what counts is whether there
were any *since the question*.

Who watched, and takes all that there was, watches on: one question for each message, not two.

All who watch are told, and one gets the message. So that a host with many idle workers does not ask
many times for each message, who has lost that race goes to sleep, if there are others of its team
(who consume the same queues): one that has no room any more calls a sleeper, which watches then.
A sleeper is still told, once, of each list that it has watched before. That is no news to it: ten
questions for ten queues, each time that another one watches. So it looks for the key by which it is
called in what it is told.

Nobody sleeps for long where there is work: who has watched for a while calls another, and yields
the next message to it. Whether a worker works is seen by what it has executed: a deploy waits for
that, and the worker of the release before it consumes the same queues.

Without news a channel asks each second, as BRPOP does: so the news decide on latency alone.
(https://redis.io/docs/latest/commands/client-tracking/)
"""

import hashlib
import logging
from collections.abc import Iterable
from queue import Empty
from time import monotonic
from typing import Any, NamedTuple

from celeriac.transport.scripts import CALL, TEAM

WAKE = "WAKE"
# The answer of a turn to a sleeper that was called.
CALLED = 1
# Who has no room for so long calls another; when nobody sleeps, it does not ask again for a while.
CALL_SECONDS = 0.01
CALL_AGAIN_SECONDS = 0.25
# Who has watched for so long lets another one do it, which has so long to be first.
WATCH_SECONDS = 1.0
YIELD_SECONDS = 0.01
# So often a member says that it is one; who was not heard of for so long is none.
MEMBERSHIP_SECONDS = 3.0
TEAM_SECONDS = 10

TEAMS = "celeriac.team."
SLEEPERS = "celeriac.sleepers."
CALLS = "celeriac.call."

_log = logging.getLogger(__name__)


class Sleeping(NamedTuple):
    """What a question says of a process that is to sleep, if there is nothing.

    Attributes:
        holder: this process.
        team: the key of all who consume the same queues.
        sleepers: the key of those of them who sleep.
        call: the key by which it is called.
        told: it slept already, and was told: only a call is news.
    """

    holder: str
    team: str
    sleepers: str
    call: str
    told: bool


class Waking:
    """Tells a channel when to ask.

    Attributes:
        watches: all lists were empty at the last question.
    """

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
        self.watches = False
        self._races = False  # it asks because it was told while it watched, as others are
        self._lost_race = False  # and another one has the message
        self._called = False  # it slept, and is to watch
        self._call = b""  # the key by which it is called
        self._news = b""  # the end of what was told: that key may come in two pieces
        self._quiet_until = 0.0
        self._may_sleep = self._sleeps = False
        self._is_alone = True  # in its team
        self._membership_at = 0.0
        self._full_since: float | None = None
        self._call_at = 0.0
        self._has_found = False  # a message, in this turn
        self._watch_until = 0.0
        self._yields = False  # the next message that it is told of, to one that it has called

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
            call(connection, "CLIENT", "TRACKING", "ON", "REDIRECT", number, "NOLOOP")
        except channel.ResponseError as error:
            pause = channel.brpop_timeout
            _log.warning("Redis does not tell of messages: up to %s s later: %s", pause, error)
        self._sockets = connection._sock, own._sock

    def invalidate(self) -> None:
        """Have the tracking set up anew."""
        self._sockets = None

    def ask_now(self) -> None:
        """Let the next turn ask: something has changed here."""
        self._quiet_until = 0.0

    def change_team(self) -> None:
        """Note that other queues are consumed from now on."""
        self._may_sleep, self._membership_at = False, 0.0
        self.ask_now()

    def is_quiet(self) -> bool:
        """Return whether there is nothing to ask for yet."""
        return monotonic() < self._quiet_until

    def pause(self) -> float:
        """Return for how long nothing need be asked, in seconds."""
        pause = float(self._channel.brpop_timeout or 1)
        return min(pause, max(self._quiet_until - monotonic(), 0.001)) if self._told else pause

    def on_question(self, queues: Iterable[str]) -> Sleeping | None:
        """Note that a question is sent; return what it says of a process that is to sleep then.

        Args:
            queues: which are asked for.

        Returns:
            None if it watches.
        """
        sleeps = (self._lost_race or self._sleeps) and self._may_sleep and not self._called
        self._races = self.watches and self._told
        self._yields = self._yields and not self._races
        self._was_told = self._told
        self._told = self._called = self._lost_race = self.watches = False
        if not sleeps:
            return None
        name, prefix = self._channel.holder.name, self._channel.global_keyprefix
        told = self._sleeps and self._was_told
        key = f"{prefix}{CALLS}{name}"
        self._call = key.encode()
        return Sleeping(name, *self._keys(queues), key, told)

    def nothing_found(self, *, sleeps: bool) -> None:
        """Note that all lists are empty now, and whether this process sleeps.

        What was told while the question was under way may be of the message before: it asks again.
        So does who has lost the race for a message, to sleep.
        """
        self._sleeps, self.watches = sleeps, not sleeps and not self._told
        self._lost_race = self._races and self._may_sleep and not sleeps
        # The event loop turns by itself that often: a little less, or every second turn asks.
        pause = 0.9 * (self._channel.brpop_timeout or 1)
        self._quiet_until = 0.0 if self._told or self._lost_race else monotonic() + pause

    def was_called(self) -> None:
        """Note that this process slept and is to watch: the next question is that of a watcher."""
        self._called, self._sleeps, self._quiet_until = True, False, 0.0
        self._watch_until = monotonic() + WATCH_SECONDS

    def found(self, *, all_of_it: bool) -> None:
        """Note that there was a message, and whether that was all, and the lists are watched."""
        if not self._was_told and not self._told and 0 < self._quiet_until < monotonic():
            self.invalidate()  # nobody has told us
        self._races, self._has_found = False, True
        if all_of_it:
            self.nothing_found(sleeps=False)
        else:
            self._sleeps, self._quiet_until = False, 0.0

    def on_invalidation(self) -> None:
        """Read the news: there is something, or somebody calls.

        Raises:
            Empty: always, to kombu: this was no message.
        """
        connection = self._client.connection
        try:
            read = connection._sock.recv(65536)
        except TimeoutError:
            read = b" "
        except OSError:
            read = b""
        if not read:
            connection.disconnect()
        if self._sleeps and read:
            news = self._news + read
            self._news = news[-len(self._call) :]
            if self._call not in news:
                raise Empty
        self._news = b""
        if not self._told:
            yields = self._yields and self.watches
            self._quiet_until = monotonic() + YIELD_SECONDS if yields else 0.0
            if yields:
                self._channel.connection.wake_later(YIELD_SECONDS)
        self._told = True
        raise Empty

    def renew_membership(self, queues: Iterable[str]) -> None:
        """Say that this process is of the team, and learn whether enough others watch; come often.

        Args:
            queues: that are consumed.
        """
        if monotonic() < self._membership_at + MEMBERSHIP_SECONDS:
            return
        self._membership_at = monotonic()
        channel = self._channel
        team, sleepers = self._keys(queues)
        client, name = channel.holder.client, channel.holder.name
        members, asleep = TEAM(client, team, sleepers, name, TEAM_SECONDS)
        self._may_sleep = asleep - self._sleeps + 1 < members
        self._is_alone = members == 1
        if self._sleeps and asleep == members:
            self.was_called()  # by nobody, for nobody watches

    def leave(self, queues: Iterable[str]) -> None:
        """Leave the team, and let another one watch.

        Args:
            queues: that were consumed.
        """
        self._may_sleep = self._sleeps = False
        channel = self._channel
        client, name = channel.holder.client, channel.holder.name
        team, sleepers = self._keys(queues)
        client.zrem(team, name)
        client.zrem(sleepers, name)
        self._call_another(queues)

    def call_if_full(self, room: bool, queues: Iterable[str]) -> None:
        """Call another if this process has no room; come often.

        Args:
            room: whether it takes messages.
            queues: that are consumed.
        """
        now = monotonic()
        if room:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
            if now > self._call_at:
                self._channel.connection.wake_later(CALL_SECONDS)
        elif now > self._full_since + CALL_SECONDS and now > self._call_at:
            self._full_since = now + 3600  # once
            if not self._call_another(queues):
                self._call_at = now + CALL_AGAIN_SECONDS

    def share_watch(self, queues: Iterable[str]) -> None:
        """Call another if this process has watched for long, and there is work; come often.

        Args:
            queues: that are consumed.
        """
        has_found, self._has_found = self._has_found, False
        now = monotonic()
        if has_found and not self._is_alone and now > self._watch_until:
            self._watch_until = now + WATCH_SECONDS
            self._yields = self._call_another(queues)

    def _call_another(self, queues: Iterable[str]) -> bool:
        """Let one of those who sleep watch; return whether there was one."""
        channel = self._channel
        _, sleepers = self._keys(queues)
        return bool(CALL(channel.holder.client, sleepers, channel.global_keyprefix + CALLS))

    def _keys(self, queues: Iterable[str]) -> tuple[str, str]:
        """Return the keys of the team and of its sleepers."""
        prefix, team = self._channel.global_keyprefix, _team(queues)
        return f"{prefix}{TEAMS}{team}", f"{prefix}{SLEEPERS}{team}"

    def close(self) -> None:
        """Close the second connection."""
        client, self._client = self._client, None
        if client is not None and client.connection is not None:
            client.connection.disconnect()


def _team(queues: Iterable[str]) -> str:
    return hashlib.sha1("\n".join(sorted(queues)).encode()).hexdigest()[:12]


def call(connection: Any, *command: Any) -> Any:
    """Send a command over a connection that has no other under way; return the answer."""
    connection.send_command(*command)
    return connection.read_response()
