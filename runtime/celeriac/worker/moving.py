"""A worker takes out of the broker before what waits there (`celeriac.moving`)."""

import logging
import threading
from typing import Any

from celery import Celery
from kombu import Connection
from kombu.exceptions import OperationalError

from celeriac import moving
from celeriac.broker import TIMEOUT_SECONDS
from celeriac.extension import ConsumerExtension, is_over
from celeriac.worker.background import BrokerThread

# Between two looks.
LOOK_SECONDS = 5.0

_log = logging.getLogger(__name__)


class MoveHere(ConsumerExtension):
    """Moves in a thread, as long as there is a broker before."""

    _thread: BrokerThread | None = None

    def start(self, consumer: Any) -> None:
        """Begin to move, once."""
        if self._thread is None and moving.is_wanted():
            self._thread = BrokerThread(consumer.app, "celeriac-move", LOOK_SECONDS, _Move(consumer.app))
            self._thread.start()

    def stop(self, consumer: Any) -> None:
        """Move no more when the worker stops. A lost connection is not the end."""
        if self._thread is not None and is_over(consumer):
            self._thread.stop()

    def shutdown(self, consumer: Any) -> None:
        """Wait for the one move that may be under way."""
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(2 * TIMEOUT_SECONDS)


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
