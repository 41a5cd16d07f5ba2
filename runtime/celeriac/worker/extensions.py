"""The extensions of a worker, and how it gets them."""

from celery import Celery

from celeriac.worker import (
    deliveries,
    liveness,
    mingle,
    pruning,
    reconnect,
    requeue,
    status,
    unregistered,
)


def install(app: Celery) -> None:
    """Extend the workers of this app.

    Args:
        app: it is changed in place. Doing it again changes nothing.
    """
    deliveries.install(app)
    requeue.install(app)
    reconnect.install(app)
    unregistered.install(app)
    liveness.install(app)
    mingle.install(app)
    pruning.install(app)
    status.install(app)
