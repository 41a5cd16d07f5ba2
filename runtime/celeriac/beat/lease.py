"""The lease that makes beat a singleton: an advisory lock in a PostgreSQL session of its own.

Whoever holds the lock leads. The lock lives exactly as long as its session, so a holder that dies
releases it by dying, and a holder whose session was ended (a restart of PostgreSQL, a killed
backend) finds that out at its next look. Advisory locks belong to one database: all beats of a
site use the same, whatever host they run on.
https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS

A lock in a session needs a session: not through a pooler in transaction mode (pgbouncer's
``pool_mode = transaction``), which lends each statement another one. Give beat a database address
that goes to PostgreSQL itself.

Waiting is asking again: a ``pg_advisory_lock`` that waits in the server is a statement that lasts
for days, and holds VACUUM and CREATE INDEX CONCURRENTLY up all the while.
"""

from typing import Any

from django.db import InterfaceError

from celeriac.postgresql import own_session

# Any number will do as long as every beat uses the same: "celebeat" in ASCII.
BEAT_LOCK = int.from_bytes(b"celebeat")

# How the client and the server find out that the other is gone without a word (a host without
# power, a network in two): after 5 s of silence it is asked every 2 s, and given up after three
# questions; data that nobody confirms for 10 s is the end as well. So a lease outlives its host by
# 11 s at most. On a Unix socket nothing of this has a meaning, and it is ignored.
# https://www.postgresql.org/docs/current/runtime-config-connection.html#RUNTIME-CONFIG-TCP-SETTINGS
CLIENT_OPTIONS = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "celery-beat lease",
}
SERVER_SETTINGS = (
    "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2;"
    " SET tcp_keepalives_count = 3; SET tcp_user_timeout = 10000"
)


class Lease:
    """The right to send, for one process of all that ask for it.

    Args:
        alias: of the database, as in ``DATABASES``; it must be PostgreSQL.

    Attributes:
        held: whether it was held at the last look.
    """

    def __init__(self, alias: str) -> None:
        self.held = False
        self._alias = alias
        self._session: Any = None
        self._backend = 0  # the process of the server that holds it for us

    def acquire(self) -> bool:
        """Take the lease if it is free, and look after it if we have it; return whether we do.

        Raises:
            django.db.Error: the database does not answer, or has ended the session. The lease is
                lost with it; the next call begins a new session.
        """
        try:
            if self._session is None:
                self._session = self._connect()
            if self.held:
                self._verify()
            else:
                self.held, self._backend = self._ask("SELECT pg_try_advisory_lock(%s), pg_backend_pid()", BEAT_LOCK)
        except BaseException:
            self.release()
            raise
        return self.held

    def release(self) -> None:
        """Release the lease by ending the session, whatever state that is in."""
        session, self._session, self.held = self._session, None, False
        if session is not None:
            session.close()

    def _verify(self) -> None:
        (backend,) = self._ask("SELECT pg_backend_pid()")
        if backend != self._backend:
            raise InterfaceError("the lease's session was exchanged: is there a pooler between?")

    def _ask(self, query: str, *parameters: object) -> Any:
        with self._session.cursor() as cursor:
            cursor.execute(query, parameters)
            return cursor.fetchone()

    def _connect(self) -> Any:
        """Begin a session beside Django's own."""
        session = own_session(self._alias, client=CLIENT_OPTIONS)
        with session.cursor() as cursor:
            cursor.execute(SERVER_SETTINGS)
        return session
