"""The ``django-db`` result backend that survives a restart of the database.

The stock backend tries again only after an ``InterfaceError``. When PostgreSQL restarts, the
connection that a pool process kept fails with an ``OperationalError``: a task that succeeded is
recorded as FAILURE, or stays STARTED for ever. This one closes the connections, so that Django
opens new ones, and lets Celery try again.

It can be named in settings, ``CELERY_RESULT_BACKEND = "celeriac.results:DatabaseBackend"``, but
need not: `celeriac.adopt` puts it in the place of ``django-db``. It tries again only where
``result_backend_always_retry`` is on.
"""

from django.db import connections
from django.db.utils import InterfaceError, OperationalError
from django_celery_results.backends.database import DatabaseBackend as StockBackend


class DatabaseBackend(StockBackend):
    """The backend of django-celery-results, which also tries again after a lost connection."""

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Say whether an operation that failed may be tried again, and make that possible.

        Args:
            exc: what the operation raised.

        Returns:
            True for what a lost connection raises. False inside a transaction: it is lost with
            its connection, and to go on without it would store half of the caller's work.
        """
        if not isinstance(exc, InterfaceError | OperationalError):
            return False
        opened = connections.all(initialized_only=True)
        if any(connection.in_atomic_block for connection in opened):
            return False
        for connection in opened:
            connection.close()
        return True
