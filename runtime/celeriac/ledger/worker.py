"""What the ledger does in a worker: requests that note, and two threads beside the event loop.

Every worker can sweep, and one at a time does: so a project need not know of it, no entry of beat
can be forgotten or switched off, and it goes on as long as there is anybody to send to. (As a task
the sweep would be lost like any other.)
"""

from functools import partial
from typing import Any

from celery import bootsteps, signals

from celeriac.aside import TIMEOUT_SECONDS, Aside
from celeriac.ledger import requests, settings, sweep
from celeriac.ledger.marks import Ledger

STOP_SECONDS = 5.0


def connect() -> None:
    """Have the parts added to each worker that begins in this process."""
    signals.celeryd_init.connect(_install, dispatch_uid="celeriac.ledger")


def _install(instance: Any, **_: Any) -> None:
    """Add the parts before Celery puts the worker together (celery/worker/worker.py, 5.7)."""
    instance.app.steps["worker"].add(Noting)
    instance.app.steps["consumer"].add(Sweeping)


class Noting(bootsteps.StartStopStep):
    """Lets the requests of the worker's tasks be noted.

    Celery starts the consumer, which asks for their classes, after all other steps of a worker. The
    first processes of the pool are there before the thread.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        worker.celeriac_ledger = self._ledger = Ledger(worker.hostname)

    def start(self, worker: Any) -> None:
        """Begin."""
        requests.install(worker.app.tasks, self._ledger)
        self._ledger.start()


class Sweeping(bootsteps.StartStopStep):
    """Looks for lost tasks, and in the end waits for what is being written and sent."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self._aside: Aside | None = None

    def start(self, consumer: Any) -> None:
        """Begin, once."""
        if self._aside is None:
            work = partial(sweep.work, consumer.app)
            seconds = settings.look_seconds()
            self._aside = Aside(consumer.app, "celeriac-ledger-sweep", seconds, work)
            self._aside.start()

    def stop(self, consumer: Any) -> None:
        """Stop looking when the worker stops, not when the connection is lost."""
        if consumer.blueprint.state != bootsteps.RUN and self._aside is not None:
            self._aside.stop()

    def shutdown(self, consumer: Any) -> None:
        """Write what is left: the pool has ended.

        A send that may be under way is waited for. Cut off, it would come a bound later.
        """
        consumer.controller.celeriac_ledger.stop(STOP_SECONDS)
        if self._aside is not None and self._aside.is_alive():
            self._aside.join(2 * TIMEOUT_SECONDS)
