"""A thread with a broker connection of its own, beside a worker's event loop."""

import logging
import threading
from collections.abc import Callable

from celery import Celery
from kombu import Connection
from kombu.exceptions import OperationalError

from celeriac import forks
from celeriac.broker import connect

_log = logging.getLogger(__name__)


class BrokerThread(threading.Thread):
    """Works with a broker connection, again and again, until it is stopped.

    A failure costs the connection and the rest of that one time. The worker's own consumer says
    what is to be said when the broker is away.
    """

    def __init__(
        self,
        app: Celery,
        name: str,
        seconds: float,
        work: Callable[[Connection, threading.Event], None],
    ) -> None:
        """Prepare it.

        Args:
            app: whose broker is meant.
            name: of the thread.
            seconds: from the end of one time to the beginning of the next.
            work: what to do, in one turn (`celeriac.forks`). It may raise, and comes to an end
                soon after the event is set.
        """
        super().__init__(name=name, daemon=True)
        self._app = app
        self._seconds = seconds
        self._work = work
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let it end; to wait for that, join it."""
        self._stopped.set()

    def run(self) -> None:
        """Work, and connect again after a failure."""
        while not self._stopped.is_set():
            with forks.turn():
                connection = connect(self._app)
            try:
                while not self._stopped.is_set():
                    with forks.turn():
                        self._work(connection, self._stopped)
                    self._stopped.wait(self._seconds)
            except (OperationalError, *connection.connection_errors) as error:
                _log.debug("%s: the broker is away: %r", self.name, error)
            except Exception:
                _log.exception("%s failed and is tried again", self.name)
            finally:
                with forks.turn():
                    _close(connection)
            self._stopped.wait(self._seconds)


def _close(connection: Connection) -> None:
    try:
        connection.release()
    except Exception:
        _log.debug("closing a broken connection failed", exc_info=True)
