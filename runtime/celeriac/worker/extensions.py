"""The extensions of a worker, in their order. A new one is a file beside this one, and a line here.

Those of the worker start once, those of the consumer with each connection (`celeriac.extension`).
"""

from celery import Celery

from celeriac import extension
from celeriac.worker.deliveries import Deliveries
from celeriac.worker.liveness import Vigil
from celeriac.worker.mingle import Neighbours
from celeriac.worker.pruning import Forgetting
from celeriac.worker.reconnect import Keeping
from celeriac.worker.requeue import HandBack, Unfinished
from celeriac.worker.status import BrokerStatus, connect
from celeriac.worker.unregistered import Unknown

EXTENSIONS: tuple[extension.Extension, ...] = (
    # Of the worker.
    HandBack,
    Deliveries,
    Forgetting,
    # Of the consumer.
    Neighbours,
    Keeping,
    Unfinished,
    Unknown,
    Vigil,
    BrokerStatus,  # the last one says that it consumes, and the first one that it does not
)


def install(app: Celery) -> None:
    """Extend the workers of this app.

    Args:
        app: it is changed in place. Doing it again changes nothing.
    """
    extension.install(app, EXTENSIONS)
    connect()
