"""The worker loses nothing: neither when it is killed nor when it is stopped."""

from __future__ import annotations

import json
from typing import Any

import pytest
from stack.machine import BROKER_UNIT, Machine
from stack.web import Website
from testinfra.host import Host

from testkit.waiting import eventually

UNITS = ("celery-worker", BROKER_UNIT)
UNIT = "celery-worker"


@pytest.mark.once
def test_task_of_a_killed_worker_is_executed_by_the_next(machine: Machine, site: Website) -> None:
    identity = site.enqueue_add(20, 22)
    eventually(lambda: site.task(identity)["state"] == "STARTED", 20)
    machine.kill(UNIT)

    # Long before the visibility timeout, which is as long as a task may take: the worker that systemd starts sees
    # that the one before it is dead.
    eventually(lambda: site.task(identity)["state"] == "SUCCESS", 60)
    assert site.task(identity)["result"] == 42


def test_task_is_executed(site: Website) -> None:
    identity = site.enqueue_add(2, 3)

    eventually(lambda: site.task(identity)["state"] == "SUCCESS", 30)
    assert site.task(identity)["result"] == 5


@pytest.mark.once
def test_stop_lets_a_running_task_finish(machine: Machine, site: Website) -> None:
    identity = site.enqueue_add(3, 4)
    eventually(lambda: site.task(identity)["state"] == "STARTED", 20)

    with machine.stopped(UNIT):
        report = site.task(identity)
        assert (report["state"], report["result"]) == ("SUCCESS", 7)


def test_node_name_contains_the_release(host: Host, release: str) -> None:
    answers = json.loads(host.check_output("site-celery inspect ping --json"))

    assert list(answers) == [f"celery-worker-{release}@{host.check_output('hostname')}"]


@pytest.mark.once
def test_active_means_that_it_consumes(machine: Machine, host: Host) -> None:
    with machine.stopped(BROKER_UNIT):
        machine.systemctl("kill", "--signal=KILL", UNIT)
        # It has come as far as it can without its broker.
        eventually(lambda: "Cannot connect" in said_since_its_start(machine, host), 30)
        assert machine.state(UNIT) == "activating"

    machine.wait_until_active(UNIT, 40)


def said_since_its_start(machine: Machine, host: Host) -> str:
    """Return what the process that is starting has said so far."""
    # Not the pause before systemd starts it, which is `activating` too.
    if machine.show(UNIT, "SubState") != "start":
        return ""
    start = machine.show(UNIT, "InvocationID")
    text: str = host.check_output("journalctl --no-pager -o cat _SYSTEMD_INVOCATION_ID=%s", start)
    return text


def test_queues_have_the_names_that_were_chosen(machine: Machine, choices: dict[str, Any]) -> None:
    command = machine.feed("", "cat", f"/proc/{machine.show('celery-worker', 'MainPID')}/cmdline").split("\0")

    assert f"--queues={','.join(choices['celery_worker_queues'])}" in command
