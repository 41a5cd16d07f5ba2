"""What is built of tasks of which one runs twice: it goes on, on both kinds of results."""

import itertools

import pytest
from leased import leased
from testkit.redis import Redis
from testkit.waiting import comes_true
from workers import let_end, record, send, worker

BACKENDS = pytest.mark.parametrize("backend", ["database", "redis"])


def with_results(environment: dict[str, str], redis: Redis, backend: str) -> dict[str, str]:
    """Return the environment of a worker with its results there, and the tasks of `work.deadly`."""
    results = {"RESULT_BACKEND": redis.url} if backend == "redis" else {}
    return leased(environment) | results


def killed(environment: dict[str, str], redis: Redis, kind: str) -> None:
    """Run a worker until a task of what is sent kills it."""
    with worker(environment) as first:
        send(redis, kind, task="work.deadly.send_twice")
        assert comes_true(lambda: first.process.poll() is not None, 60), first.log.read_text()


@BACKENDS
@pytest.mark.parametrize("kind", ["chord", "chord of a failure"])
def test_a_chord_waits_for_all_though_one_of_them_ended_twice(
    kind: str, backend: str, environment: dict[str, str], redis: Redis
) -> None:
    environment = with_results(environment, redis, backend)
    twice = "failed twice" if "failure" in kind else "ended twice"
    killed(environment, redis, kind)
    with worker(environment) as only:
        # A sender that was not acknowledged before the worker died sends a second chord, which ends once.
        only.waits(lambda: record(environment).count(twice) >= 2, "two ends of one task")
        if kind == "chord":
            assert f"heard {kind}" not in record(environment)
        let_end(environment, "gate")
        only.waits(lambda: f"heard {kind}" in record(environment), "body")
    assert "ended never" not in record(environment)


# On Redis the body of such a chord is lost: see docs/brokers.md.
@pytest.mark.parametrize(
    ("kind", "backend"),
    [
        ("chord unsent", "database"),
        *itertools.product(("chain", "group", "link_error"), ("database", "redis")),
    ],
)
def test_what_follows_a_task_that_runs_twice_is_sent(
    kind: str, backend: str, environment: dict[str, str], redis: Redis
) -> None:
    """Of a chord also when the worker dies that is about to send its body."""
    environment = with_results(environment, redis, backend)
    killed(environment, redis, kind)
    with worker(environment) as only:
        only.waits(lambda: f"heard {kind}" in record(environment), "what follows")
