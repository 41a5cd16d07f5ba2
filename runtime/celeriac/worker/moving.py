"""A worker takes out of the broker before what waits there (`celeriac.moving`)."""

import logging
import threading

from celery import Celery
from kombu import Connection
from kombu.exceptions import OperationalError

from celeriac import moving
from celeriac.worker.background import BrokerThread, ThreadExtension

# Between two looks.
LOOK_SECONDS = 5.0

_log = logging.getLogger(__name__)


class MoveHere(ThreadExtension):
    """Moves in a thread, as long as there is a broker before."""

    def make_thread(self, app: Celery) -> BrokerThread | None:
        """Return what moves, where there is a broker before."""
        return BrokerThread(app, "celeriac-move", LOOK_SECONDS, _Move(app)) if moving.is_wanted() else None


class _Move:
    """Moves, and complains once of a broker before that does not answer."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._complained = False

    def __call__(self, connection: Connection, stopped: threading.Event) -> None:
        try:
            moved = moving.move_here(self._app, connection, stopped)
        except Exception as error:  # of either of two kinds of brokers
            if not self._complained:
                _log.warning("what waits in the broker before cannot be moved: %r", error)
            self._complained = True
            raise OperationalError(str(error)) from error
        self._complained = False
        if moved:
            _log.info("%d task(s) moved from the broker before", moved)
