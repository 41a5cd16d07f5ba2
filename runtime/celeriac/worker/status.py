"""What a worker tells systemd, and how long it may drain.

=====================================  ==========================================================
moment                                 message
=====================================  ==========================================================
the process starts                     ``STATUS=waiting for the broker``
it consumes for the first time         ``READY=1``, ``STATUS=consuming``
the broker is lost, and found again    ``STATUS=waiting for the broker``, ``STATUS=consuming``
a signal stops it                      ``STOPPING=1``, ``STATUS=`` how, and how many tasks run
it stops for whatever other reason     ``STOPPING=1``
the solo pool begins and ends a task   ``STATUS=runs <task>``, ``STATUS=consuming``: it answers nobody
a sixth of ``WatchdogSec`` is over     ``WATCHDOG=1``, if it does not hang (`~.liveness`)
it hangs                               ``STATUS=hangs: `` why, ``WATCHDOG=trigger``, then nothing
=====================================  ==========================================================

**The drain.** SIGTERM is Celery's warm shutdown: nothing new is taken, what is not started is
requeued at once (`~.requeue`), and what runs is waited for, however long. systemd ends that wait
with SIGKILL at ``TimeoutStopSec``, and then the unfinished messages stay out of sight until the
broker's visibility timeout. So the worker ends it itself, earlier: ``CELERIAC_DRAIN_SECONDS`` after
SIGTERM it raises SIGQUIT, the cold shutdown, which waits ``worker_soft_shutdown_timeout`` more
(since Celery 5.5) and then requeues unfinished ``acks_late`` tasks. Hence ``TimeoutStopSec`` > drain
+ soft shutdown + a few seconds. Without the variable Celery waits as it always did. A SIGQUIT from
outside ends the drain in the same way, with a clock or without one.
(celery/apps/worker.py, 5.7)
"""

import logging
import os
import signal
from functools import partial
from typing import Any

from celery import signals
from celery.concurrency import solo
from celery.worker import state

from celeriac import internals, versions
from celeriac.extension import ConsumerExtension, is_over
from celeriac.systemd import notify

_log = logging.getLogger(__name__)


def connect() -> None:
    """Let the workers of this process report to systemd and bound their drain."""
    signals.worker_init.connect(_starting)
    signals.worker_ready.connect(_ready)
    signals.worker_shutdown.connect(_shut_down)


class BrokerStatus(ConsumerExtension):
    """Says in STATUS whether the worker has its broker.

    Celery starts a consumer's steps again with each new connection, and stops them when a
    connection is lost as well as at the end. This is the last one before the event loop: the queues
    of this connection are declared by then.
    """

    def start(self, consumer: Any) -> None:
        """Say that there is a connection."""
        if consumer.restart_count > 0:  # the first time, "consuming" comes with READY
            notify("STATUS=consuming")

    def stop(self, consumer: Any) -> None:
        """Say that the connection is lost, or that the worker goes."""
        notify("STOPPING=1" if is_over(consumer) else "STATUS=waiting for the broker")


def _starting(sender: Any, **_: Any) -> None:
    """Connect what needs the worker itself."""
    signals.worker_shutting_down.connect(partial(_shutting_down, sender), weak=False)
    for each in versions.off():
        _log.warning("off is the %s", each)
    notify("STATUS=waiting for the broker")
    if issubclass(sender.pool_cls, solo.TaskPool):
        signals.task_prerun.connect(_runs)
        signals.task_postrun.connect(_ran)


def _runs(task: Any, **_: Any) -> None:
    notify(f"STATUS=runs {task.name}")


def _ran(**_: Any) -> None:
    if state.should_stop is None:
        notify("STATUS=consuming")


def _ready(**_: Any) -> None:
    notify("READY=1\nSTATUS=consuming")


def _shutting_down(worker: Any, sig: str, how: str, **_: Any) -> None:
    """Report, and start the clock. Runs inside Celery's signal handler."""
    tasks = len(state.active_requests)
    status = f"{how.lower()} shutdown ({sig}), {tasks} task(s) running"
    seconds = _drain_seconds()
    if how == "Warm" and state.should_stop is None:  # the first signal
        signal.signal(signal.SIGQUIT, partial(_cut_short, worker, signal.getsignal(signal.SIGQUIT)))
        if seconds is not None:
            # An interval timer, not a thread: a thread cannot be started safely in a signal handler.
            signal.signal(signal.SIGALRM, _drained)
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))  # 0 would mean "never"
            status += f", requeued after {seconds:g} s"
    notify(f"STOPPING=1\nSTATUS={status}")


def _shut_down(**_: Any) -> None:
    """Stop the clock. While Python ends, it has no handlers any more: SIGALRM would kill it."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _drain_seconds() -> float | None:
    value = os.environ.get("CELERIAC_DRAIN_SECONDS", "")
    return float(value) if value else None


def _cut_short(worker: Any, cold_shutdown: Any, number: int, frame: Any) -> None:
    """Begin the cold shutdown, whoever asks for it, and stop the clock of the drain.

    The clock would ask once more, and for Celery a second SIGQUIT ends the soft shutdown.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)
    cold_shutdown(number, frame)
    internals.cancel_if_celery_does_not(worker.consumer)


def _drained(*_: object) -> None:
    notify(f"STATUS=drain over, {len(state.active_requests)} task(s) running, cold shutdown begins")
    signal.raise_signal(signal.SIGQUIT)
