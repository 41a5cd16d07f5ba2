"""A deploy while requests and tasks arrive at a fixed rate, and what became of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stack.load import Answer, failures

from bench.machines import Host
from bench.timing import Run, tell

# The load goes on so long before and after the deploy.
BEFORE_SECONDS = AFTER_SECONDS = 5
LATE_SECONDS = 1


@dataclass(frozen=True)
class Shipment:
    """A deploy under load.

    Attributes:
        run: the deploy.
        answers: to the requests that were due from its beginning on, those that sent tasks among them.
        executions: of the tasks that were accepted by these requests: id, and when it ended (Unix time).
    """

    run: Run
    answers: list[Answer]
    executions: list[tuple[str, float]]


def shipped(host: Host, deploy: Callable[[], Run], lost_seconds: float) -> Shipment:
    """Deploy under load.

    Args:
        host: that serves the site.
        deploy: does it.
        lost_seconds: after which a task that was not executed is lost.
    """
    with host.load(seconds=900) as load:
        time.sleep(BEFORE_SECONDS)
        began = time.time()
        run = deploy()
        time.sleep(AFTER_SECONDS)
        load.stop()
    answers = load.answers(since=began)
    for line in failures(answers)[:5]:
        tell(f"    {line}")
    return Shipment(run, answers, executions(host, {answer.task for answer in answers if answer.task}, lost_seconds))


def executions(host: Host, tasks: set[str], lost_seconds: float) -> list[tuple[str, float]]:
    """Return the executions of these tasks, when all were executed or it is too late for the rest."""
    deadline = time.monotonic() + lost_seconds
    while True:
        found = [(task, at) for task, at in host.executed() if task in tasks]
        if tasks == {task for task, _ in found} or time.monotonic() > deadline:
            return found
        time.sleep(1)


def summary(shipments: Iterable[Shipment]) -> str:
    """Return what became of the requests and the tasks of some deploys, in a line."""
    all_of = list(shipments)
    answers = [answer for shipment in all_of for answer in shipment.answers]
    due = {answer.task: answer.due for answer in answers if answer.task}
    executed = [execution for shipment in all_of for execution in shipment.executions]
    times = Counter(task for task, _ in executed)
    return (
        f"of {len(answers)} requests {len(failures(answers))} failed,"
        f" {waiting(answer.seconds for answer in answers)};"
        f" of {len(due)} tasks {len(due.keys() - times.keys())} were lost,"
        f" {sum(count > 1 for count in times.values())} executed twice,"
        f" {waiting(at - due[task] for task, at in executed)}"
    )


def waiting(seconds: Iterable[float]) -> str:
    """Return how many took long from when they were due, and the longest."""
    took = list(seconds)
    late = sum(each > LATE_SECONDS for each in took)
    return f"{late} took over {LATE_SECONDS} s, the longest {max(took, default=0):.2f} s"
