"""Tasks that were sent: what became of each, and what can still be done about it.

A *run* is one task that was sent, known by its id. What it was sent with is in `app.models.Dispatch`,
what became of it in the result backend, whichever that is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any


class UnknownRunError(LookupError):
    """No task was sent under that id, as far as is known here."""


class NotRerunnableError(Exception):
    """The task cannot be run again with the same arguments; the text says why, for a person."""


class ResultsAwayError(Exception):
    """The store of results does not answer."""


@dataclass(frozen=True)
class Run:
    """One task that was sent.

    Attributes:
        id: its UUID.
        name: of the task, empty where it is not known.
        state: PENDING, RECEIVED, STARTED, RETRY, SUCCESS, FAILURE or REVOKED.
        args, kwargs: what it was sent with; None where that was not kept.
        priority: 0 to 9, 9 first; None for the default.
        eta: not before this time.
        sent_at, started_at, done_at: None where it is not known, or not yet.
        worker: node name, empty before it was started.
        result: what it returned (SUCCESS).
        error: "ExceptionType: text" (FAILURE, RETRY, REVOKED).
        traceback: of the error.
        parent: id of the run that this one repeats, None for no rerun.
        sent_by: who started it by hand, empty for code and schedule.
        not_rerunnable: why it cannot be run again, empty when it can.
    """

    id: str
    name: str
    state: str
    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None
    priority: int | None = None
    eta: datetime | None = None
    sent_at: datetime | None = None
    started_at: datetime | None = None
    done_at: datetime | None = None
    worker: str = ""
    result: Any = None
    error: str = ""
    traceback: str = ""
    parent: str | None = None
    sent_by: str = ""
    not_rerunnable: str = ""

    @property
    def seconds(self) -> float | None:
        """How long it ran, None before its end."""
        if self.started_at is None or self.done_at is None:
            return None
        return (self.done_at - self.started_at).total_seconds()

    @property
    def is_over(self) -> bool:
        """Whether it will not change any more."""
        return self.state in {"SUCCESS", "FAILURE", "REVOKED"}


@dataclass(frozen=True)
class Page:
    """A part of the list, the youngest run first.

    Attributes:
        runs: on this page.
        newer, older: what to give to `page` for the neighbours, None where there are none.
    """

    runs: list[Run]
    newer: str | None
    older: str | None


class Revoked(Enum):
    """What a revoke has done."""

    BEFORE_START = "it will not start"
    TERMINATED = "it ran, and was stopped at once"
    RUNS_ON = "it runs already, and a revoke alone does not stop it"
    WAS_OVER = "it had ended before"


def start(
    name: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    priority: int | None = None,
    countdown: float | None = None,
    by: str = "",
) -> str:
    """Send a registered task; return the id of its run.

    Args:
        name: of the task.
        args, kwargs: checked against its signature before anything is sent.
        priority: 0 to 9, 9 first; None for the default.
        countdown: not before so many seconds from now.
        by: who asked for it: a user's name.

    Raises:
        app.catalogue.UnknownTaskError, app.catalogue.BadArgumentsError: nothing was sent. A priority or a
            countdown that cannot be is a problem of "priority" or "countdown".
        app.enqueue.BrokerAwayError: nothing was sent.
    """
    raise NotImplementedError


def find(run_id: str) -> Run:
    """Return one run with all that is known of it.

    Raises:
        UnknownRunError: nothing is known under that id.
        ResultsAwayError: the store of results does not answer.
    """
    raise NotImplementedError


def page(*, state: str = "", name: str = "", cursor: str = "", size: int = 25) -> Page:
    """Return a page of the list: without tracebacks, in a bounded number of queries however many there are.

    Args:
        state: only runs in this state, "" for all.
        name: only runs of this task, "" for all.
        cursor: `Page.newer` or `Page.older` of another page, "" for the first one. One that is not understood is "".
        size: how many at most.

    Raises:
        ResultsAwayError: the store of results does not answer.
    """
    raise NotImplementedError


def revoke(run_id: str, *, terminate: bool = False, by: str = "") -> Revoked:
    """Keep a run from starting; with terminate, stop it also when it runs. Survives a killed worker.

    Raises:
        UnknownRunError: nothing is known under that id.
        app.enqueue.BrokerAwayError: it is noted, and workers that start will know; those that run do not yet.
    """
    raise NotImplementedError


def rerun(run_id: str, *, by: str = "") -> str:
    """Send the same task with the same arguments again; return the id of the new run.

    Raises:
        UnknownRunError: nothing is known under that id.
        NotRerunnableError: the arguments were not kept, or do not fit the task any more, or there is no such task.
        app.enqueue.BrokerAwayError: nothing was sent.
    """
    raise NotImplementedError
