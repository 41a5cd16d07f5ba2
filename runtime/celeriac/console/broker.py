"""The broker, as staff see it: how full it is, and what is parked there (`celeriac.parked`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from celery import current_app
from celery.exceptions import OperationalError
from kombu import Connection
from kombu.transport.redis import Channel

from celeriac import parked
from celeriac.broker import connect, memory
from celeriac.console.runs import Run
from celeriac.enqueue import BrokerUnavailableError
from celeriac.parked import Parked
from celeriac.probe import Probe


class NotParkedError(LookupError):
    """No such task is parked; nothing was done."""


@dataclass(frozen=True)
class Broker:
    """How the broker is.

    Attributes:
        parked: how many tasks are parked.
        percent: how full it is; None where that is not known, as with RabbitMQ.
    """

    parked: int
    percent: int | None


def all_parked() -> list[Parked]:
    """Return what is parked, the longest first; a queue by the name that it has in Celery.

    Raises:
        celeriac.enqueue.BrokerUnavailableError: it is not known.
    """
    with _connected() as connection:
        found = parked.all_parked(connection)
    # On Redis each priority has a list of its own.
    named = [replace(each, queue=each.queue.partition(Channel.sep)[0]) for each in found]
    return sorted(named, key=lambda each: each.since)


def release(*ids: str) -> list[str]:
    """Put parked tasks back into their queues, where each begins anew; return those that were not parked.

    Args:
        ids: of their runs, or `Parked.tag`.

    Raises:
        celeriac.enqueue.BrokerUnavailableError: none is lost, and those that come first may be released.
    """
    with _connected() as connection:
        return [each for each in ids if not parked.release(connection, each)]


def release_run(run_id: str) -> None:
    """Release a run.

    Raises:
        NotParkedError, celeriac.enqueue.BrokerUnavailableError: nothing was done.
    """
    if release(run_id):
        raise NotParkedError(f"No task is parked under the id {run_id}.")


def state() -> Broker | None:
    """Return how the broker is, for a page: None in about two seconds when it is away."""
    return _STATE.answer()


def parked_as(run: Run) -> Parked | None:
    """Return what is parked of a run, for a page: None, too, when the broker is away.

    Only of a run that has failed so is the broker asked: RabbitMQ has to hand out all that is parked.
    """
    if not (run.error.startswith("WorkerLostError") and run.error.endswith("parked")):
        return None
    return next((each for each in _PARKED.answer() or () if each.task_id == run.id), None)


@contextmanager
def _connected() -> Iterator[Connection]:
    """Give a connection on which nothing waits long."""
    connection = connect(current_app)
    own = *connection.connection_errors, *connection.channel_errors
    errors: tuple[type[BaseException], ...] = (OperationalError, *own)
    try:
        with connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            yield connection
    except errors as error:
        raise BrokerUnavailableError(str(error)) from error


def _ask_state() -> Broker:
    with _connected() as connection:
        used = memory(connection)
        return Broker(parked.count(connection), None if used is None else round(100 * used))


_STATE = Probe("broker", _ask_state)
_PARKED = Probe("broker", all_parked)
