"""Whatever happens to tasks, a row says what is true of the last publication under its id."""

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ledgers import Project

Step = tuple[str, Any]


def publish(task: str = "sleep", task_id: str = "a", retries: int = 0) -> Step:
    """Return the step in which a task is sent."""
    return "publish", (task, task_id, retries, "")


FLUSH: Step = ("flush", None)
START, END = [("start", 0), FLUSH], [("end", 0), FLUSH]
AGAIN_START, AGAIN_END = [("start", 1), FLUSH], [("end", 1), FLUSH]

STEPS = st.lists(
    st.one_of(
        st.builds(
            publish,
            st.sampled_from(["sleep", "early", "secret"]),
            st.sampled_from(["a", "daily"]),
            st.integers(0, 2),
        ),
        st.tuples(st.sampled_from(["start", "end"]), st.integers(0, 8)),
        st.just(FLUSH),
    ),
    max_size=25,
)


@given(steps=STEPS)
@example([publish(), *START, *END])
@example([publish(), ("start", 0), ("end", 0)])  # in one flush
@example([publish(), ("start", 0), ("end", 0), ("start", 0)])
@example([publish(), *START, publish(retries=1), *END])  # a retry, sent before its attempt ends
@example([publish(), *START, publish(retries=1), *END, *AGAIN_START, *AGAIN_END])
@example([publish(), *START, publish("early"), *END])  # one that replaces itself: same retries
@example([publish(), *START, publish("early"), *AGAIN_START, *END])
@example([publish(), *START, *START, *END])  # given out again
@example([publish(), ("start", 0), ("start", 0), ("end", 0)])
@example([publish(retries=2), *START, *END, publish()])  # a new one under an id that is over
@example([publish(), ("start", 0), ("end", 0), publish(), FLUSH, ("start", 1)])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_row_says_what_is_true_of_the_last_publication(sender: Project, steps: list[Step]) -> None:
    published: list[tuple[str, str, int]] = []
    starts: dict[int, int] = {}
    ends: set[int] = set()
    played: list[Step] = []
    for what, given_ in steps:
        if what == "publish":
            task, task_id, retries, _ = given_
            played.append((what, (task, task_id, retries, f"{len(published)}")))
            published.append((task, task_id, retries))
            continue
        if what == "flush":
            played.append((what, None))
        elif published:
            number = given_ % len(published)
            played.append((what, number))
            starts[number] = starts.get(number, 0) + (what == "start")
            ends |= {number} if what == "end" else set()
    rows = sender.call("work.ledger_help", "play", played)
    last = {task_id: number for number, (_, task_id, _) in enumerate(published)}
    assert {task_id: row["number"] for task_id, row in rows.items()} == last
    for row in rows.values():
        task, _, retries = published[row["number"]]
        kept = None if task == "secret" else f'["{row["number"]}", 0]'
        assert (row["name"], row["retries"]) == (f"work.tasks.{task}", retries)
        assert row["args"] == kept
        assert row["starts"] == starts.get(row["number"], 0)
        begun = bool(row["starts"])
        assert (row["started_at"] is not None, row["overdue_at"] is not None) == (begun, begun)
        assert row["worker"] == ("the worker" if begun else "")
        assert (row["ended_at"] is not None) == (row["number"] in ends)
