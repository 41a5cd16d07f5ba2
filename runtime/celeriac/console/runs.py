"""Tasks that were sent: what became of each, and what can still be done about it.

A *run* is one task that was sent, known by its id. What it was sent with is in `celeriac.ledger.models.Dispatch`,
what became of it in the result backend, whichever that is.
"""

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from itertools import islice
from typing import Any

from celery import current_app
from celery.exceptions import OperationalError
from celery.states import FAILURE, PENDING, READY_STATES, RETRY, REVOKED, STARTED, SUCCESS
from django.db.models import Exists, OuterRef, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django_celery_results.backends.database import DatabaseBackend
from django_celery_results.models import TaskResult
from kombu.utils import json

from celeriac import clock, internals, priorities, registry
from celeriac.console import revocations
from celeriac.console.models import Revocation
from celeriac.enqueue import BrokerUnavailableError, send
from celeriac.ledger.models import Dispatch
from celeriac.ledger.publishing import RERUN_OF, SENT_BY

# Of a list of runs whose results are not in the database so many are looked at, at most, to fill a page that is
# filtered by state.
LOOKED_AT = 1000

# How long RabbitMQ lets a consumer hold a message, unless its own configuration says otherwise.
RABBITMQ_CONSUMER_SECONDS = 30 * 60


class UnknownRunError(LookupError):
    """No task was sent under that id, as far as is known here."""


class NotRerunnableError(Exception):
    """The task cannot be run again with the same arguments; the text says why, for a person."""


class ResultsUnavailableError(Exception):
    """The result backend is unavailable."""


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
        entry: of the schedule, by its name, that it was sent for; empty for none.
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
    entry: str = ""
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


def ours() -> "QuerySet[Dispatch]":
    """Return what was sent of the project's own tasks; the journal also has Celery's."""
    return Dispatch.objects.exclude(name__startswith="celery.")


def start(
    name: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    priority: int | None = None,
    countdown: float | None = None,
    by: str = "",
    options: Mapping[str, Any] | None = None,
) -> str:
    """Send a registered task; return the id of its run.

    Args:
        name: of the task.
        args: by position. They are checked against its signature before anything is sent.
        kwargs: by name.
        priority: 0 to 9, 9 first; None for the default.
        countdown: not before so many seconds from now.
        by: who asked for it: a user's name.
        options: more for `apply_async`: queue, headers, expires.

    Raises:
        celeriac.registry.UnknownTaskError, celeriac.registry.BadArgumentsError: nothing was sent. A priority or a
            countdown that cannot be is a problem of "priority" or "countdown".
        celeriac.enqueue.BrokerUnavailableError: nothing was sent.
    """
    problems = dict(_problems(name, priority, countdown))
    try:
        registry.check(name, args, kwargs or {})
    except registry.BadArgumentsError as error:
        problems |= error.problems
    if problems:
        raise registry.BadArgumentsError(problems)
    return _send(name, args, kwargs or {}, priority=priority, countdown=countdown, by=by, more=options or {})


def find(run_id: str) -> Run:
    """Return one run with all that is known of it.

    Raises:
        UnknownRunError: nothing is known under that id.
        ResultsUnavailableError: the result backend is unavailable.
    """
    row = Dispatch.objects.filter(task_id=run_id).first()
    outcome = _outcomes([run_id]).get(run_id)
    if row is None and outcome is None:
        raise UnknownRunError(f"No task was sent under the id {run_id}, as far as is known here.")
    return _run(run_id, row, outcome or UNKNOWN)


def reruns(run_id: str) -> list[str]:
    """Return the ids of the runs that repeat this one, the first one first."""
    return [*Dispatch.objects.filter(parent=run_id).order_by("pk").values_list("task_id", flat=True)]


def page(*, state: str = "", name: str = "", entry: str = "", cursor: str = "", size: int = 25) -> Page:
    """Return a page of the list: without tracebacks, in a bounded number of queries however many there are.

    The state can be asked for in one query where results are in the database. Where they are in Redis it is known
    only after each was read: then the page looks at the next `LOOKED_AT` runs at most, and may be short, or empty,
    though there are older ones.

    Args:
        state: only runs in this state, "" for all. PENDING: what has ended and left no result is not waiting.
        name: only runs of this task, "" for all.
        entry: only runs that were sent for this entry of the schedule, "" for all.
        cursor: `Page.newer` or `Page.older` of another page, "" for the first one. One that is not understood is "".
        size: how many at most.

    Raises:
        ResultsUnavailableError: the result backend is unavailable.
    """
    rows = _matching(state, name, entry)
    direction, start = _parsed(cursor)
    if direction == "newer":
        found, end = _first(rows.filter(pk__gt=start).order_by("pk"), state, size)
        if end is None:  # that was the youngest one: a whole first page shows more
            return page(state=state, name=name, entry=entry, size=size)
        found.reverse()
        newer, older = end, found[-1][0].pk if found else start + 1
        return Page(_runs(found), newer=f"newer-{newer}", older=f"older-{older}")
    if direction == "older":
        rows = rows.filter(pk__lt=start)
    found, end = _first(rows.order_by("-pk"), state, size)
    first = found[0][0].pk if found else start - 1
    return Page(
        _runs(found),
        newer=f"newer-{first}" if direction else None,
        older=None if end is None else f"older-{end}",
    )


def _matching(state: str, name: str, entry: str) -> "QuerySet[Dispatch]":
    """Return what was sent, of a task and for an entry; "" for any."""
    # Celery's own tasks are no news, unless it is asked what the schedule does with them.
    rows = Dispatch.objects.filter(entry=entry) if entry else ours()
    if name:
        rows = rows.filter(name=name)
    if state == PENDING:
        # Few have not ended, and they have an index. Of a million that have, each would be looked up in the results.
        rows = rows.filter(ended_at=None)
    return rows


def revoke(run_id: str, *, terminate: bool = False, by: str = "") -> Revoked:
    """Keep a run from starting; with terminate, stop it also when it runs. Survives a killed worker.

    The workers are asked where the task is: that takes a second where one of them does not answer, and on RabbitMQ.

    Raises:
        UnknownRunError: nothing is known under that id.
        ResultsUnavailableError: the result backend is unavailable, and nothing was done.
        celeriac.enqueue.BrokerUnavailableError: it is noted, and workers that start will know; those that run do not.
    """
    run = find(run_id)
    if run.is_over:
        return Revoked.WAS_OVER
    # First of all, so that a worker that starts in this moment knows.
    Revocation.objects.update_or_create(
        task_id=run_id, defaults={"revoked_by": by}, create_defaults={"revoked_by": by, "terminate": terminate}
    )
    revocations.prune()
    try:
        where = revocations.revoke_in_workers(run_id, terminate=terminate)
    except OperationalError as error:
        raise BrokerUnavailableError(str(error)) from error
    if where is revocations.Whereabouts.RUNS and not terminate:
        return Revoked.RUNS_ON
    if where is revocations.Whereabouts.RUNS:
        _wait_until_over(run_id)
        return Revoked.TERMINATED
    now = find(run_id)
    if now.is_over and now.state != REVOKED:
        return Revoked.WAS_OVER
    if now.state == STARTED:
        return Revoked.RUNS_ON  # on a worker that does not answer
    if now.state != REVOKED or not run.worker:
        revocations.mark_revoked(run_id, run.name)
    return Revoked.BEFORE_START


def _wait_until_over(run_id: str) -> None:
    """Wait a moment for the worker that was told to stop a task: it stores the new state as it does so."""
    deadline = time.monotonic() + revocations.ANSWER_SECONDS
    while not find(run_id).is_over and time.monotonic() < deadline:
        time.sleep(0.02)


def rerun(run_id: str, *, by: str = "") -> str:
    """Send the same task with the same arguments again; return the id of the new run.

    It has the priority of the first one, and goes where that went if it was sent to another queue than the default
    one: on purpose, so the task may belong there.

    Raises:
        UnknownRunError: nothing is known under that id.
        NotRerunnableError: the arguments were not kept, or do not fit the task any more, or there is no such task.
        celeriac.enqueue.BrokerUnavailableError: nothing was sent.
    """
    row = Dispatch.objects.filter(task_id=run_id).first()
    reason = _not_rerunnable(find(run_id).name if row is None else row.name, row)
    if row is None or reason:
        raise NotRerunnableError(reason)
    args, kwargs = _restored(row) or ((), {})  # without any there is a reason
    more = {} if row.queue in {"", current_app.conf.task_default_queue} else {"queue": row.queue}
    return _send(row.name, args, kwargs, priority=row.priority, by=by, parent=run_id, more=more)


def _send(
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    priority: int | None,
    countdown: float | None = None,
    by: str,
    parent: str = "",
    more: Mapping[str, Any],
) -> str:
    own = {key: value for key, value in ((SENT_BY, by), (RERUN_OF, parent)) if value}
    options = {key: value for key, value in (("priority", priority), ("countdown", countdown)) if value is not None}
    headers = {**more.get("headers", {}), **own}
    return str(send(registry.task_named(name), args, kwargs, **{**more, **options, "headers": headers}).id)


def _problems(name: str, priority: Any, countdown: Any) -> Iterator[tuple[str, str]]:
    """Say what is wrong with a priority and a countdown."""
    if priority is not None and not (
        isinstance(priority, int)
        and not isinstance(priority, bool)
        and priorities.LOWEST <= priority <= priorities.HIGHEST
    ):
        bounds = {"lowest": priorities.LOWEST, "highest": priorities.HIGHEST}
        yield "priority", _("is not a whole number from %(lowest)d to %(highest)d") % bounds
    if countdown is None:
        return
    if isinstance(countdown, bool) or not isinstance(countdown, int | float) or not 0 <= countdown < math.inf:
        yield "countdown", _("is not a number of seconds")
        return
    longest = longest_countdown(name)
    if countdown > longest:
        problem = ngettext(
            "is more than %d second: what is to run later belongs in the schedule",
            "is more than %d seconds: what is to run later belongs in the schedule",
            longest,
        )
        yield "countdown", problem % longest


def longest_countdown(name: str) -> int:
    """Return for how many seconds a task may be put off.

    A worker takes such a task at once and holds it. After the visibility timeout Redis takes it for lost, if that
    worker has no lease (`celeriac.transport`), after its consumer timeout RabbitMQ takes the worker for stuck, and
    either gives it to a second one: waiting and running have to fit in there.

    Source: https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout

    Raises:
        celeriac.registry.UnknownTaskError: there is no such task.
    """
    consumer = int(os.environ.get("CELERIAC_CONSUMER_SECONDS") or RABBITMQ_CONSUMER_SECONDS)
    visibility = current_app.conf.broker_transport_options.get("visibility_timeout", consumer)
    # A project may have set no limit: then nothing is known of how long it runs.
    limit = registry.task_named(name).time_limit or current_app.conf.task_time_limit or 0
    return max(0, int(visibility - limit - internals.soft_shutdown_seconds(current_app.conf)))


# ==================================================================================================
# What became of them: the result backend
# ==================================================================================================


@dataclass(frozen=True)
class Outcome:
    """What the result backend has of a run; a run that it does not know is PENDING."""

    state: str
    name: str = ""
    worker: str = ""
    entry: str = ""
    result: Any = None
    error: str = ""
    traceback: str = ""
    created_at: datetime | None = None
    started_at: datetime | None = None
    done_at: datetime | None = None


UNKNOWN = Outcome(PENDING)


def _in_database() -> bool:
    return isinstance(current_app.backend, DatabaseBackend)


def _in_state(rows: "QuerySet[Dispatch]", state: str) -> "QuerySet[Dispatch]":
    """Keep those in a state. Without a row in the table of results it is PENDING."""
    results = TaskResult.objects.filter(task_id=OuterRef("task_id"))
    if state == PENDING:
        return rows.filter(~Exists(results.exclude(status=PENDING)))
    return rows.filter(Exists(results.filter(status=state)))


def _parsed(cursor: str) -> tuple[str, int]:
    """Return the direction of a cursor and where it begins, "" and 0 for the first page."""
    direction, _, key = cursor.partition("-")
    if direction in {"newer", "older"} and key.isascii() and key.isdecimal() and len(key) < 19:
        return direction, int(key)
    return "", 0


def _first(rows: "QuerySet[Dispatch]", state: str, size: int) -> tuple[list[tuple[Dispatch, Outcome]], int | None]:
    """Return the first rows that are in a state ("" for any).

    Returns:
        The rows with their outcomes, and the key after which to go on; None where no rows are left.
    """
    looked_at = size
    if state and _in_database():
        rows = _in_state(rows, state)
    elif state:
        looked_at = max(size, LOOKED_AT)
    some = [*rows[: looked_at + 1]]
    looked = some[:looked_at]
    outcomes = _outcomes([row.task_id for row in looked])
    pairs = ((row, outcomes.get(row.task_id, UNKNOWN)) for row in looked)
    found = [*islice((pair for pair in pairs if state in {"", pair[1].state}), size)]
    last = found[-1][0] if len(found) == size else looked[-1] if looked else None
    return found, None if last is None or last is some[-1] else last.pk


def _outcomes(run_ids: Sequence[str]) -> dict[str, Outcome]:
    """Return what the backend has of these runs, in one query; those that it does not know are left out.

    Raises:
        ResultsUnavailableError: it does not answer.
    """
    if not run_ids:
        return {}
    backend: Any = current_app.backend  # Celery's types know only what all backends have
    if _in_database():
        found = TaskResult.objects.filter(task_id__in=run_ids)
        return {row.task_id: _from_row(row) for row in found}
    with _away_is_an_error():
        if hasattr(backend, "mget") and hasattr(backend, "get_key_for_task"):  # Redis, and what is like it
            stored = backend.mget([backend.get_key_for_task(run_id) for run_id in run_ids])
            metas = {run_id: backend.decode(each) for run_id, each in zip(run_ids, stored, strict=True) if each}
        else:
            metas = {run_id: backend.get_task_meta(run_id, cache=False) for run_id in run_ids}
            metas = {run_id: meta for run_id, meta in metas.items() if meta["status"] != PENDING}
    return {run_id: _from_meta(meta) for run_id, meta in metas.items()}


@contextmanager
def _away_is_an_error() -> Iterator[None]:
    try:
        yield
    except getattr(current_app.backend, "connection_errors", ()) as error:
        raise ResultsUnavailableError(str(error)) from error


def _from_row(row: Any) -> Outcome:
    backend: Any = current_app.backend
    content = backend.decode_content(row, row.result)
    return _outcome(
        row.status,
        content,
        name=row.task_name or "",
        worker=row.worker or "",
        entry=row.periodic_task_name or "",
        traceback=row.traceback or "",
        created_at=clock.aware(row.date_created),
        started_at=clock.aware(row.date_started),
        # Until it has ended, when the row was last written.
        done_at=clock.aware(row.date_done if row.status in READY_STATES else None),
    )


def _from_meta(meta: Mapping[str, Any]) -> Outcome:
    done_at = meta.get("date_done")
    return _outcome(
        meta["status"],
        meta.get("result"),
        name=meta.get("name") or "",
        worker=meta.get("worker") or "",
        traceback=meta.get("traceback") or "",
        done_at=datetime.fromisoformat(done_at) if isinstance(done_at, str) else done_at,
    )


def _outcome(state: str, content: Any, **known: Any) -> Outcome:
    if state == STARTED and isinstance(content, dict) and not known["worker"]:
        known["worker"] = content.get("hostname") or ""
    return Outcome(
        state,
        result=content if state == SUCCESS else None,
        error=_error(content) if state in {FAILURE, RETRY, REVOKED} else "",
        **known,
    )


def _error(content: Any) -> str:
    """Return "ExceptionType: text" of an exception, stored as Celery's JSON has it or restored already."""
    arguments: Any
    if isinstance(content, BaseException):
        kind, arguments = type(content).__name__, content.args
    elif isinstance(content, dict) and "exc_type" in content:
        kind, arguments = content["exc_type"], content.get("exc_message") or ()
    else:
        return "" if content is None else str(content)
    if kind == "TimeLimitExceeded":
        return f"{kind}: " + _("it ran longer than its time limit, and its process was ended")
    if kind == "SoftTimeLimitExceeded":
        return f"{kind}: " + _("it ran longer than its soft time limit, and did not go on")
    if isinstance(arguments, list | tuple):
        arguments = arguments[0] if len(arguments) == 1 else ", ".join(str(each) for each in arguments)
    return f"{kind}: {arguments}" if arguments else kind


# ==================================================================================================
# What they were sent with
# ==================================================================================================


def _runs(found: Sequence[tuple[Dispatch, Outcome]]) -> list[Run]:
    return [replace(_run(row.task_id, row, outcome), traceback="") for row, outcome in found]


def _run(run_id: str, row: Dispatch | None, outcome: Outcome) -> Run:
    known: dict[str, Any] = {}
    if row is not None:
        args, kwargs = _restored(row) or (None, None)
        known = {
            "args": args,
            "kwargs": kwargs,
            "priority": row.priority,
            "eta": clock.aware(row.eta),
            "sent_at": clock.aware(row.sent_at),
            "parent": row.parent or None,
            "sent_by": row.sent_by,
        }
    name = row.name if row else outcome.name
    return Run(
        id=run_id,
        name=name,
        state=outcome.state,
        started_at=outcome.started_at,
        done_at=outcome.done_at,
        worker=outcome.worker,
        result=outcome.result,
        entry=(row and row.entry) or outcome.entry,
        error=outcome.error,
        traceback=outcome.traceback,
        not_rerunnable=_not_rerunnable(name, row),
        **known,
    )


def _restored(row: Dispatch) -> tuple[list[Any], dict[str, Any]] | None:
    """Return the arguments as a worker gets them, None where they were not kept or cannot be read."""
    if row.args is None or row.kwargs is None:
        return None
    try:
        return json.loads(row.args), json.loads(row.kwargs)
    except ValueError:
        return None


def _not_rerunnable(name: str, row: Dispatch | None) -> str:
    """Return why a task cannot be sent again with the same arguments, "" if it can."""
    try:
        task = registry.find(name)
    except registry.UnknownTaskError:
        return _("There is no task %s any more.") % name if name else _("Which task it was is not known.")
    if not task.keeps_arguments:
        return _("The arguments of this task are never stored.")
    if row is None:
        return _("What it was sent with is not known: it was sent by another program, or too long ago.")
    arguments = _restored(row)
    if arguments is None:
        return _("Its arguments were not stored.")
    try:
        registry.check(name, *arguments)
    except registry.BadArgumentsError as error:
        return _("Its arguments do not fit the task any more: %s") % error
    return ""
