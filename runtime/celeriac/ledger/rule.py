"""When a task is sent again. Nothing is looked up here: what is known comes in, a verdict goes out.

A message on Redis is in a queue, or in ``unacked``, where it is from the moment in which a worker
has noted it until it is acknowledged; and in the moment of the acknowledgement a receipt is left.
So one that is in neither and has no receipt is lost, or a worker has taken it and has not noted it
yet. The second is over in milliseconds, unless the worker is frozen, and may therefore last for as
long as the bound. (kombu/transport/redis.py, 5.7)
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum


class Verdict(Enum):
    """What to do with a row of the ledger."""

    LEAVE = "nothing"
    CLOSE = "it is over: acknowledged, revoked or expired"
    TAKEN = "it was acknowledged when it started"
    MISSING = "it is nowhere, for the first time"
    FOUND = "it was nowhere, and is there again"
    SEND = "send it again"
    LOST = "it would have to be sent again, and cannot be"


class Receipt(Enum):
    """What an acknowledgement says, of the attempt in question or a later one."""

    STARTED = "s"  # acknowledged when it started
    ENDED = "e"


@dataclass(frozen=True)
class Noted:
    """What the ledger knows of a task.

    Attributes:
        queued_at: when it was put into its queue.
        eta, expires: of the message.
        missed_at: since when it is nowhere.
        started_at: when a worker last started this attempt.
        overdue_at: by when it must have ended then, None for never.
        acked: acknowledged when it started.
        ended: it is over.
        sendable: its arguments are kept.
    """

    queued_at: datetime
    eta: datetime | None = None
    expires: datetime | None = None
    missed_at: datetime | None = None
    started_at: datetime | None = None
    overdue_at: datetime | None = None
    acked: bool = False
    ended: bool = False
    sendable: bool = True


@dataclass(frozen=True)
class Seen:
    """What was seen of it at the broker and elsewhere, after the row was read.

    Attributes:
        present: in a list of its queue, in ``unacked``, or parked.
        receipt: the one that was left of it. It is looked for after all places.
        revoked: somebody has revoked it.
    """

    present: bool = False
    receipt: Receipt | None = None
    revoked: bool = False


def verdict(noted: Noted, seen: Seen, now: datetime, bound: timedelta, look: timedelta) -> Verdict:
    """Return what to do with a task.

    Args:
        noted: what the ledger knows of it.
        seen: what was seen of it.
        now: the time.
        bound: for how long it must be nowhere, in all looks of that time. One is not enough: a
            message that is put back from ``unacked`` into its queue between two readings is seen
            in neither.
        look: nobody looks for what was sent less than so long ago: nearly all is over by then.
    """
    if noted.ended:
        return Verdict.LEAVE
    if seen.receipt is Receipt.ENDED:
        return Verdict.CLOSE
    if noted.acked:
        return Verdict.LEAVE
    if seen.receipt is Receipt.STARTED:
        return Verdict.TAKEN
    may_run = noted.started_at and (noted.overdue_at is None or now < noted.overdue_at)
    early = now < max(filter(None, (noted.queued_at, noted.eta))) + look
    if seen.present or may_run or early:
        return Verdict.LEAVE if noted.missed_at is None else Verdict.FOUND
    if seen.revoked or (noted.expires is not None and noted.expires < now):
        return Verdict.CLOSE
    if noted.missed_at is None:
        return Verdict.MISSING
    if now < noted.missed_at + bound:
        return Verdict.LEAVE
    return Verdict.SEND if noted.sendable else Verdict.LOST
