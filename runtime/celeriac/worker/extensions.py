"""The extensions of a worker, in their order. A new one is a file beside this one, and a line here.

Those of the worker start once, those of the consumer with each connection (`celeriac.extension`).
"""

from celery import Celery

from celeriac import extension
from celeriac.worker.deliveries import Deliveries
from celeriac.worker.events import BoundEvents
from celeriac.worker.figures import Figures
from celeriac.worker.guarantees import Guarantees
from celeriac.worker.liveness import Liveness
from celeriac.worker.mingle import FastMingle
from celeriac.worker.moving import MoveHere
from celeriac.worker.pruning import Pruning
from celeriac.worker.reconnect import KeepMessages
from celeriac.worker.requeue import ReportCancelled, RequeueOnStop
from celeriac.worker.status import BrokerStatus, connect
from celeriac.worker.unregistered import ParkUnregistered
from celeriac.worker.wakeup import WakeLoop

EXTENSIONS: tuple[extension.Extension, ...] = (
    # Of the worker.
    RequeueOnStop,
    Deliveries,
    Figures,
    Pruning,
    Guarantees,
    # Of the consumer.
    BoundEvents,
    WakeLoop,
    FastMingle,
    KeepMessages,
    ReportCancelled,
    ParkUnregistered,
    MoveHere,
    Liveness,
    BrokerStatus,  # the last one says that it consumes, and the first one that it does not
)


def install(app: Celery) -> None:
    """Extend the workers of this app.

    Args:
        app: it is changed in place. Doing it again changes nothing.
    """
    extension.install(app, EXTENSIONS)
    connect()
