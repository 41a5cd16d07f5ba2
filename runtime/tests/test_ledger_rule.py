"""The sweep's rule, against a model of a broker that loses messages, and of workers that die."""

from datetime import UTC, datetime, timedelta
from enum import Enum

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from celeriac.ledger.rule import Noted, Receipt, Seen, Verdict, verdict

BOUND = timedelta(seconds=60)
LOOK = timedelta(seconds=12)
LIMIT = timedelta(seconds=600)
NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("noted", "seen", "expected"),
    [
        ({}, {}, Verdict.MISSING),
        ({"missed_at": NOW - BOUND}, {}, Verdict.SEND),
        ({"missed_at": NOW - BOUND + LOOK}, {}, Verdict.LEAVE),
        ({"missed_at": NOW - BOUND, "sendable": False}, {}, Verdict.LOST),
        ({"missed_at": NOW - BOUND}, {"present": True}, Verdict.FOUND),
        ({}, {"present": True}, Verdict.LEAVE),
        ({"queued_at": NOW - LOOK / 2}, {}, Verdict.LEAVE),
        ({"eta": NOW - LOOK / 2, "missed_at": NOW - BOUND}, {}, Verdict.FOUND),
        ({"expires": NOW - LOOK}, {}, Verdict.CLOSE),
        ({"missed_at": NOW - BOUND}, {"revoked": True}, Verdict.CLOSE),
        ({"ended": True, "missed_at": NOW - BOUND}, {}, Verdict.LEAVE),
        ({"missed_at": NOW - BOUND}, {"receipt": Receipt.ENDED}, Verdict.CLOSE),
        ({"missed_at": NOW - BOUND}, {"receipt": Receipt.STARTED}, Verdict.TAKEN),
        ({"acked": True, "missed_at": NOW - BOUND}, {}, Verdict.LEAVE),
        ({"acked": True}, {"receipt": Receipt.ENDED}, Verdict.CLOSE),
        ({"started_at": NOW - 9 * BOUND}, {}, Verdict.LEAVE),
        ({"started_at": NOW - 9 * BOUND, "overdue_at": NOW + BOUND}, {}, Verdict.LEAVE),
        ({"started_at": NOW - 9 * BOUND, "overdue_at": NOW - BOUND}, {}, Verdict.MISSING),
    ],
)
def test_verdicts(noted: dict[str, object], seen: dict[str, object], expected: Verdict) -> None:
    row = Noted(**{"queued_at": NOW - 10 * BOUND, **noted})  # type: ignore[arg-type]
    assert verdict(row, Seen(**seen), NOW, BOUND, LOOK) is expected  # type: ignore[arg-type]


class Place(Enum):
    """Where a copy of the message is."""

    QUEUE = "queue"
    TAKEN = "taken by a worker that has not noted it"
    UNACKED = "noted in unacked, waiting or running there"


class Task(RuleBasedStateMachine):
    """One task, all copies of its message, and a sweep that may look at any time.

    A worker that has taken a message and has not noted it within the bound is as good as dead: when
    it goes on after all, there are two copies, and that is allowed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.late = True  # acks_late
        self.eta: datetime | None = None
        self.queued_at = NOW
        self.copies: list[tuple[Place, datetime]] = [(Place.QUEUE, NOW)]
        self.running: list[datetime] = []  # since when
        self.started_at: datetime | None = None  # as the ledger has it
        self.receipt: Receipt | None = None
        self.acked = self.ended = False
        self.executed = 0
        self.revoked = False
        self.missed_at: datetime | None = None
        self.nowhere_since: datetime | None = None  # the first of the looks that missed it in a row

    def move(self, place: Place, to: Place | None) -> bool:
        for number, (where, _) in enumerate(self.copies):
            if where is place:
                self.copies[number : number + 1] = [] if to is None else [(to, self.now)]
                return True
        return False

    @initialize(late=st.booleans(), eta=st.integers(0, 300))
    def sent(self, late: bool, eta: int) -> None:
        self.late, self.eta = late, NOW + timedelta(seconds=eta)

    @rule(seconds=st.integers(1, 90))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def a_worker_takes_it(self) -> None:
        self.move(Place.QUEUE, Place.TAKEN)

    @rule()
    def the_worker_notes_it(self) -> None:
        self.move(Place.TAKEN, Place.UNACKED)

    @rule()
    def the_worker_dies_before_it_notes_it(self) -> None:
        self.move(Place.TAKEN, None)

    @rule(told=st.booleans())
    def it_starts(self, told: bool) -> None:
        if any(place is Place.UNACKED for place, _ in self.copies) and not self.revoked:
            self.running.append(self.now)
            if told:
                self.started_at, self.missed_at = self.now, None
            if not self.late:
                self.move(Place.UNACKED, None)
                self.receipt = self.receipt or Receipt.STARTED
                self.acked = told or self.acked

    @rule(told=st.booleans())
    @precondition(lambda self: self.running)
    def it_ends(self, told: bool) -> None:
        self.running.pop()
        self.executed += 1
        if self.late:
            self.move(Place.UNACKED, None)
        self.receipt = Receipt.ENDED if self.late else Receipt.STARTED
        self.ended = self.ended or told

    @rule()
    @precondition(lambda self: self.running and self.late)
    def its_worker_dies(self) -> None:
        self.running.pop()

    @rule()
    def it_goes_back(self) -> None:
        self.move(Place.UNACKED, Place.QUEUE)

    @rule()
    def somebody_revokes_it(self) -> None:
        self.revoked = True

    @rule()
    def the_sweep_looks(self) -> None:
        if any(place is not Place.TAKEN for place, _ in self.copies):
            self.nowhere_since = None
        elif self.nowhere_since is None:
            self.nowhere_since = self.now
        word = self.look()
        if word is Verdict.SEND:
            assert self.nowhere_since is not None
            assert self.now - self.nowhere_since >= BOUND, "a healthy hand-over"
            assert self.receipt is None
            assert not (self.ended or self.acked or self.revoked)
            assert self.now >= max(self.eta or NOW, self.queued_at) + BOUND
            assert self.started_at is None or self.now - self.started_at >= LIMIT
            self.copies.append((Place.QUEUE, self.now))
            self.queued_at, self.missed_at, self.nowhere_since = self.now, None, None

    def look(self) -> Verdict:
        noted = Noted(
            queued_at=self.queued_at,
            eta=self.eta,
            missed_at=self.missed_at,
            started_at=self.started_at,
            overdue_at=self.started_at + LIMIT if self.started_at else None,
            acked=self.acked,
            ended=self.ended,
        )
        seen = Seen(
            present=any(place is not Place.TAKEN for place, _ in self.copies),
            receipt=self.receipt,
            revoked=self.revoked,
        )
        word = verdict(noted, seen, self.now, BOUND, LOOK)
        if word in {Verdict.MISSING, Verdict.FOUND}:
            self.missed_at = self.now if word is Verdict.MISSING else None
        self.ended |= word is Verdict.CLOSE
        self.acked |= word is Verdict.TAKEN
        return word

    @invariant()
    def it_is_not_given_up(self) -> None:
        """What is in no place and was not executed is open, unless it is revoked."""
        if not self.copies and not self.executed and self.late:
            assert not self.ended or self.revoked

    def teardown(self) -> None:
        """In the end it is executed, unless it is revoked, or was acknowledged before it ran."""
        if self.revoked or not self.late or self.executed or self.running:
            return
        for _ in range(8):
            self.now += max(LIMIT, BOUND)
            self.the_sweep_looks()
        if not any(place is not Place.TAKEN for place, _ in self.copies):
            raise AssertionError("it is lost")


TestTask = Task.TestCase
TestTask.settings = settings(
    max_examples=300, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow],
    deadline=None,
)  # fmt: skip
