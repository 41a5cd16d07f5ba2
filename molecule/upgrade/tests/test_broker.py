"""The broker changes while the site serves: from Redis to RabbitMQ, undone once, and back. No task is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from stack.lab import Site
from stack.load import Load, failures
from stack.playbook import Run

from testkit.waiting import eventually

UNITS = ("celery-worker", "redis-server", "rabbitmq-server")

TO_RABBITMQ = ("-e", "site_broker=rabbitmq", "-e", "site_broker_before=redis")
BACK = ("-e", "site_broker=redis", "-e", "site_broker_before=rabbitmq")


@dataclass(frozen=True)
class Changes:
    """What the runs said, and what was sent meanwhile: by the load, and before with a time that comes after all."""

    refused: Run
    undone: Run
    there: Run
    back: Run
    load: Load
    later: list[str]
    left: list[str]


@pytest.fixture(scope="module")
def changes(site: Site, folder: Path, full: bool) -> Iterator[Changes]:
    """Change it under load, with tasks that wait for their time meanwhile."""
    if not full:
        pytest.skip("the switch of the broker is tried with --full")
    release = site.healthy()
    later = site.send("probe.quick", "later", count=20, countdown=60)

    def run(*choices: str) -> Run:
        return site.start("site.yml", *release.arguments, *choices).wait()

    try:
        with Load(site.plan(requests=8, tasks=8, seconds=3600, probe=True), folder / "broker.txt") as load:
            refused = run("-e", "site_broker=rabbitmq")
            undone = run(*TO_RABBITMQ, "-e", "site_release_fault=health")
            there = run(*TO_RABBITMQ)
            left = site.start("playbooks/status.yml", *TO_RABBITMQ).wait().output.splitlines()
            back = run(*BACK)
            load.stop()
            yield Changes(refused, undone, there, back, load, later, [line for line in left if "broker" in line])
    finally:
        run()


def test_each_run_ends_as_it_should(changes: Changes) -> None:
    assert "site_broker_before: redis" in changes.refused.output
    assert changes.refused.status != 0
    assert "was not switched in: step health failed" in changes.undone.output
    assert changes.there.status == 0, changes.there.output
    assert changes.back.status == 0, changes.back.output


def test_the_status_says_of_both_how_they_are(changes: Changes) -> None:
    assert any("broker: amqp" in line for line in changes.left)
    assert any("broker before: " in line for line in changes.left)


def test_no_request_fails(changes: Changes) -> None:
    assert failures(changes.load.answers()) == []


def test_no_task_is_lost(changes: Changes, site: Site) -> None:
    accepted = changes.load.accepted() | {*changes.later}
    assert len(accepted) > 100

    eventually(lambda: not accepted - site.executed(accepted).keys(), 120, pause=2)
