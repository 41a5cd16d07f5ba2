"""A worker that hangs is found out from within, and replaced by systemd's watchdog.

``WatchdogSec=`` of the unit is how long a worker may go without a sign of life. A thread gives
that sign for the event loop, and withholds it from one that

- does not turn, for two thirds of that time,
- turns, but receives nothing for as long, though messages wait in its queues and it has room,
- or does not reconnect to a broker that answers.

Two further threads would be no help against a frozen process; then the sign stays away by itself.
What the worker is seen to do is compared with the broker's own word, over a connection of its own.
Where that does not answer, no worker is replaced: one whose broker is away waits, however long.
Spared are also: a worker that stops; one that consumes from no queue; one whose room is taken up by
tasks that run, or are held for their ETA or by a rate limit; and the solo pool while a task runs,
which stands still by design (a task without an end is not found out there).

From the beginning of a hang to the end of the worker it takes at most ``WatchdogSec`` (a frozen
process: the same, by systemd), except for a reconnect, which has `RECONNECT_SECONDS`.
"""

import faulthandler
import logging
import threading
import time
from time import monotonic
from typing import Any

from celery import Celery
from celery.concurrency import solo
from celery.worker import state
from kombu import Connection

from celeriac import internals
from celeriac.broker import UNREGISTERED, waiting
from celeriac.extension import ConsumerExtension, is_over
from celeriac.systemd import Watchdog, notify
from celeriac.worker.background import BrokerThread

# In parts of WatchdogSec: how often the broker is asked and the sign given, how long a worker may
# look as if it hung, and how old the broker's last word may be. The last is so much shorter because
# a loop that waits for a broker which has just gone stands still since before that word.
CHECK = 1 / 6
PATIENCE = 2 / 3
RECENT = 1 / 3

TICK_SECONDS = 1.0
# Celery waits up to 32 s between two attempts to connect (kombu, Connection.ensure_connection).
RECONNECT_SECONDS = 90.0

_log = logging.getLogger(__name__)


class Liveness(ConsumerExtension):
    """Feeds systemd's watchdog while the consumer makes progress, from its first connection on."""

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._watchdog = Watchdog()
        self._progress: ConsumerProgress | None = None

    def start(self, consumer: Any) -> None:
        """Note that the consumer has a connection, and begin to watch it if nobody does yet."""
        if self._watchdog.seconds is None:
            return
        if self._progress is None:
            self._progress = ConsumerProgress(consumer, self._watchdog.seconds)
            self._start_threads(consumer.app, self._progress)
        self._progress.connected()
        if consumer.hub is not None:
            # Anew for each connection: its loss ends what was registered since it was made.
            consumer.timer.call_repeatedly(TICK_SECONDS, self._progress.tick)

    def stop(self, consumer: Any) -> None:
        """Note that the connection is lost, or that the worker stops."""
        if self._progress is not None:
            self._progress.disconnected(for_good=is_over(consumer))

    def _start_threads(self, app: Celery, progress: "ConsumerProgress") -> None:
        # systemd ends a hanging process with SIGABRT: the log then says where each thread was.
        faulthandler.enable(2)  # standard error
        seconds = (self._watchdog.seconds or 0) * CHECK
        BrokerThread(app, "celeriac-broker", seconds, progress.ask_broker).start()
        arguments = (self._watchdog, progress, seconds)
        threading.Thread(target=_feed, args=arguments, name="celeriac-watchdog", daemon=True).start()


class ConsumerProgress:
    """What is known of the progress of a consumer, and whether it hangs.

    All times are those of time.monotonic().
    """

    def __init__(self, consumer: Any, watchdog_seconds: float) -> None:
        """Begin to watch.

        Args:
            consumer: Celery's. It is changed, to learn when it receives a message.
            watchdog_seconds: WatchdogSec of the unit.
        """
        self._consumer = consumer
        self._patience = watchdog_seconds * PATIENCE
        self._recent = watchdog_seconds * RECENT
        self._stops = False
        self._ticked = monotonic()
        self._received = 0.0
        self._disconnected: float | None = None
        self._answers_since: float | None = None  # the broker, without a gap
        self._answered = 0.0
        self._starves_since: float | None = None
        self._waiting = 0
        self._watch_messages(consumer)
        if consumer.hub is None:
            self._watch_turns(consumer)

    def tick(self) -> None:
        """Note that the event loop turns."""
        self._ticked = monotonic()

    def connected(self) -> None:
        """Note that the event loop is about to run, on a new connection."""
        self._ticked = monotonic()
        self._starves_since = None
        self._disconnected = None

    def disconnected(self, *, for_good: bool) -> None:
        """Note that there is no event loop now, and whether there will be none any more."""
        self._stops = self._stops or for_good
        self._disconnected = monotonic()

    def ask_broker(self, connection: Connection, _stopped: threading.Event) -> None:
        """Ask the broker what waits, and note whether the consumer could have it and does not.

        Args:
            connection: a connection that nobody else uses.
        """
        queues = [queue.name for queue in getattr(self._consumer.task_consumer, "queues", ())]
        self._waiting = sum(waiting(connection, name) for name in queues or [UNREGISTERED])
        now = monotonic()
        if self._answers_since is None or now - self._answered > self._recent:
            self._answers_since = now
        self._answered = now
        if not (queues and self._waiting and self._has_room(connection)):
            self._starves_since = None
        elif self._starves_since is None or self._received > self._starves_since:
            self._starves_since = now

    def hangs(self) -> str | None:
        """Return why this worker must be replaced, in words; None as long as it need not be."""
        now = monotonic()
        if self._stops or self._answers_since is None or now - self._answered > self._recent:
            return None
        if self._disconnected is not None:
            away = now - max(self._disconnected, self._answers_since)
            if away > RECONNECT_SECONDS:
                return f"not connected for {away:.0f} s, to a broker that answers"
            return None
        # The loop may have waited for the broker; then it goes on now.
        still = now - max(self._ticked, self._answers_since)
        if still > self._patience and not self._blocks_by_design():
            return f"the event loop has not ticked for {still:.0f} s"
        since = self._starves_since
        if since is not None and self._received <= since and now - since > self._patience:
            free = self._consumer.pool.num_processes - len(state.reserved_requests)
            silent = now - max(self._received, since)
            return f"{self._waiting} task(s) wait, {free} slot(s) are free, and nothing was received for {silent:.0f} s"
        return None

    def _watch_messages(self, consumer: Any) -> None:
        create = consumer.create_task_handler

        def create_task_handler(*arguments: Any, **options: Any) -> Any:
            handle = create(*arguments, **options)

            def received(message: Any) -> Any:
                self._received = monotonic()
                return handle(message)

            return received

        consumer.create_task_handler = create_task_handler

    def _watch_turns(self, consumer: Any) -> None:
        """Take the place of ticks in the blocking loop, whose timer is a thread of its own."""
        perform = consumer.perform_pending_operations

        def perform_pending_operations() -> None:
            self.tick()
            perform()

        consumer.perform_pending_operations = perform_pending_operations

    def _blocks_by_design(self) -> bool:
        return isinstance(self._consumer.pool, solo.TaskPool) and bool(state.reserved_requests)

    def _has_room(self, connection: Connection) -> bool:
        """Return whether a healthy consumer would take another message."""
        consumer = self._consumer
        busy = len(state.reserved_requests)
        buckets = [bucket for bucket in [*consumer.task_buckets.values()] if bucket]
        limited = sum(len(bucket.contents) for bucket in buckets)
        held = busy + len(internals.scheduled(consumer)) + limited
        # That of a quorum queue does not grow with held tasks; Celery says so since 5.7, and says it of Redis, too.
        fixed = connection.transport.driver_type == "amqp" and getattr(consumer, "qos_global", None) is False
        prefetch = consumer.initial_prefetch_count if fixed else consumer.qos.value
        return busy < consumer.pool.num_processes and (not prefetch or held < prefetch)


def _feed(watchdog: Watchdog, progress: ConsumerProgress, seconds: float) -> None:
    """Feed the watchdog until the worker hangs, or the process ends."""
    while True:
        reason = None
        try:
            reason = progress.hangs()
        except Exception:
            _log.exception("whether this worker hangs cannot be told; it is taken to be well")
        if reason:
            _log.error("this worker hangs and is to be replaced: %s", reason)
            notify(f"STATUS=hangs: {reason}\nWATCHDOG=trigger")
            return
        watchdog.feed()
        time.sleep(seconds)
