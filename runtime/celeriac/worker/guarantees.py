"""A worker says which guarantee its tasks have, with the rest of ``celery inspect stats``."""

from typing import Any

from celeriac import guarantees
from celeriac.extension import WorkerExtension


class Guarantees(WorkerExtension):
    """Tells it to whoever asks for the worker's figures: nobody else knows all tasks."""

    def info(self, worker: Any) -> dict[str, Any]:
        """Return what is added to them."""
        return {"guarantees": guarantees.report(worker.app)}
