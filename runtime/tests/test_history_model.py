"""Any history of tasks: what the broker has accepted is there until it has ended once.

The ids are fresh, used again, or the same each day; tasks replace themselves, retry, fail, and lose
their process or worker before that is heard of. See `work.history` for what is real in it: nearly
all.
"""

import itertools
import os
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import redis as redis_client
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from ledgers import Project
from testkit.redis import Redis

FULL = bool(os.environ.get("CELERIAC_FULL"))
WORKERS = 2
DAILY = "daily"

numbers = st.integers(0, 1000)
workers = st.integers(0, WORKERS - 1)
outcomes = st.sampled_from(["succeed", "fail", "retry", "replace", "nothing"])
fates = st.sampled_from(["is heard of", "is heard of", "killed", "lost"])


class History(RuleBasedStateMachine):
    """Some workers, and who sends them tasks."""

    sender: ClassVar[Project]
    client: ClassVar[Any]

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.numbers = itertools.count(1)
        self.ids: list[str] = []
        self.found: dict[str, Any] = {}

    def ask(self, what: str, *arguments: Any) -> None:
        """Let something happen, and see that nothing is lost."""
        answer = self.sender.call("work.history", what, *arguments)
        assert "error" not in answer, answer
        self.found = answer
        accepted, ended = {*answer["accepted"]}, {*answer["ended"]}
        assert accepted - ended - {*answer["there"]} == set(), "dropped before it ended once"
        assert {*answer["closed"]} <= ended, "the journal says that it has ended"

    @initialize()
    def begins(self) -> None:
        """The workers are there, and something to do."""
        self.ask("begin", WORKERS)
        for kind in ("daily", "fresh", "daily"):
            self.publish(0, kind)

    def teardown(self) -> None:
        """In the end all of it has ended, and nothing is left."""
        if self.found:
            self.ask("finish")
            assert {*self.found["accepted"]} == {*self.found["ended"]}
            assert self.found["there"] == []

    @rule(which=numbers, kind=st.sampled_from(["fresh", "daily", "again"]))
    def publish(self, which: int, kind: str) -> None:
        """Somebody sends a task."""
        number = next(self.numbers)
        task_id = f"id-{number}"
        if kind == "daily":
            task_id = DAILY
        elif kind == "again" and self.ids:
            task_id = self.ids[which % len(self.ids)]
        self.ids.append(task_id)
        self.ask("publish", number, task_id)

    @rule(who=workers, times=st.integers(1, 3))
    def take(self, who: int, times: int) -> None:
        """A worker takes messages."""
        for _ in range(times):
            self.ask("do", who, "take")

    @rule(who=workers, which=numbers)
    def begin(self, who: int, which: int) -> None:
        """A task starts."""
        self.ask("do", who, "begin", which)

    @rule(who=workers, which=numbers, outcome=outcomes, fate=fates)
    def end(self, who: int, which: int, outcome: str, fate: str) -> None:
        """A task ends, if its process does not before; and the worker may be killed thereafter."""
        self.ask("do", who, "end", which, outcome, next(self.numbers), fate)

    @rule(who=workers, what=st.lists(st.tuples(outcomes, fates), min_size=1, max_size=4))
    def work(self, who: int, what: list[tuple[str, str]]) -> None:
        """A worker takes messages, does them one after the other, and has the journal written."""
        for outcome, fate in what:
            self.take(who, 1)
            self.begin(who, -1)
            self.end(who, -1, outcome, fate)
        self.flush(who)

    @rule(who=workers, seen=st.booleans())
    def kill(self, who: int, seen: bool) -> None:
        """A worker is killed with all that it has, and the other one looks."""
        self.ask("do", who, "kill", seen)
        self.look(who + 1)

    @rule(who=workers)
    def stand_still(self, who: int) -> None:
        """A worker stands still, the other one takes over, and it goes on."""
        self.ask("do", who, "stand_still")
        self.look(who + 1)

    @rule(who=workers)
    def look(self, who: int) -> None:
        """A worker looks for those that are gone."""
        self.ask("do", who, "look")

    @rule(who=workers)
    def give_back(self, who: int) -> None:
        """A worker drains."""
        self.ask("do", who, "give_back")

    @rule(who=workers)
    def flush(self, who: int) -> None:
        """A worker brings its marks to the journal."""
        self.ask("do", who, "flush")


@pytest.fixture
def machine(sender: Project, redis: Redis) -> Iterator[type[History]]:
    """The histories of one project."""
    with redis_client.Redis.from_url(redis.url) as client:
        History.sender, History.client = sender, client
        yield History


def test_what_is_accepted_is_there_until_it_has_ended_once(machine: type[History]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=2000 if FULL else 40,
            stateful_step_count=40,
            deadline=None,
            derandomize=not FULL,
            suppress_health_check=list(HealthCheck),
        ),
    )
