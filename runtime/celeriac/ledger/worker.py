"""What the journal does in a worker: requests that record, and two threads beside the event loop."""

from typing import Any

from celery import signals

from celeriac.extension import ConsumerExtension, WorkerExtension, install
from celeriac.ledger import requests, retention
from celeriac.ledger.models import Dispatch
from celeriac.ledger.recorder import Recorder
from celeriac.pruning import Job, PruningThread

STOP_SECONDS = 5.0


def connect() -> None:
    """Have the parts added to each worker that begins in this process."""
    signals.celeryd_init.connect(_install, dispatch_uid="celeriac.ledger")


def _install(instance: Any, **_: Any) -> None:
    """Add the parts before Celery puts the worker together (celery/worker/worker.py, 5.7)."""
    install(instance.app, (RecordTasks, FlushRecorder))


class RecordTasks(WorkerExtension):
    """Starts the recorder of the worker, and prunes the journal.

    Celery starts the consumer, which asks for their classes, after all other steps of a worker. The
    first processes of the pool are there before the threads.
    """

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        worker.celeriac_recorder = self._recorder = Recorder(worker.hostname)

    def start(self, worker: Any) -> None:
        """Begin."""
        requests.install(worker.app.tasks, self._recorder)
        self._recorder.start()
        PruningThread(Job("the journal", Dispatch, retention.prune)).start()


class FlushRecorder(ConsumerExtension):
    """Lets the recorder write what is left, in the end."""

    def shutdown(self, consumer: Any) -> None:
        """Write what is left: the pool has ended."""
        consumer.controller.celeriac_recorder.stop(STOP_SECONDS)
