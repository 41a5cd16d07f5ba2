"""Pools of workers come, change and go while tasks are sent to them."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import pytest
from stack.lab import Site
from stack.load import Load
from stack.playbook import Run

from testkit.waiting import eventually

UNITS = ("celery-worker", "celery-worker-mail")
# The roles that describe what is chosen here, and the transaction.
ROLES = ("--tags", "always,site_host,celery_worker")
PAUSE_SECONDS = 0.2


def choices(**chosen: object) -> tuple[str, ...]:
    """Return the arguments that choose something, and let a deploy know it."""
    return ("--extra-vars", json.dumps(chosen), *ROLES)


class Sender(threading.Thread):
    """Sends tasks to a queue until it is told to stop.

    Args:
        site: to whom.
        queue: which.

    Attributes:
        ids: of the tasks that the broker has.
        refused: what was answered where it has not.
    """

    def __init__(self, site: Site, queue: str) -> None:
        super().__init__(daemon=True)
        self._site, self._queue = site, queue
        self._over = threading.Event()
        self.ids: list[str] = []
        self.refused: list[str] = []

    def run(self) -> None:
        """Send one after the other."""
        while not self._over.wait(PAUSE_SECONDS):
            try:
                self.ids += self._site.send("probe.quick", f"to {self._queue}", 0.1, queue=self._queue)
            except (AssertionError, OSError) as error:
                self.refused.append(repr(error))

    def stop(self) -> None:
        """Send no more."""
        self._over.set()
        self.join()


@contextmanager
def sending(site: Site, queue: str) -> Iterator[Sender]:
    """Send tasks to a queue meanwhile."""
    sender = Sender(site, queue)
    sender.start()
    try:
        yield sender
    finally:
        sender.stop()


@dataclass(frozen=True)
class Scene:
    """A pool that came, was changed and went.

    Attributes:
        sent: the tasks that were sent to its queue all the time.
        refused: those that were not taken.
        units: for which its alias stood when it had come, and when it was changed.
        nodes: which workers there were when it had come.
        at_once: how many tasks ran at the same time when it had come, and when it was changed.
        unread: the deploy in which nobody was to read its queue.
        drained: the state of its unit when it was gone, while a task of it ran.
        long: id of that task.
        status: what the status said then.
    """

    sent: list[str]
    refused: list[str]
    units: tuple[str, str]
    nodes: list[str]
    at_once: tuple[int, int]
    unread: Run
    drained: str
    long: str
    status: str


@pytest.fixture(scope="module")
def scene(site: Site, light_load: Load) -> Scene:
    """What happened to a pool under load."""
    release = site.healthy()
    pool: dict[str, object] = {"queues": ["mail"], "concurrency": 1, "nice": 5}

    def at_once(name: str, most: int) -> int:
        """Return how many of three tasks of the queue begin before one may end, which are so many at most."""
        began, word = time.time(), f"word-{uuid4()}"
        site.send("probe.long", name, 1, word, count=3, queue="mail")
        eventually(lambda: len(site.runs(f"{name} started", began)) >= most, 60)
        time.sleep(2)  # in which one more would begin, if it might
        started = len(site.runs(f"{name} started", began))
        site.send("probe.quick", word)
        eventually(lambda: len(site.runs(name, began)) == 3, 60)
        return started

    with sending(site, "mail") as sender:
        run = site.deploy(release, *choices(celery_worker_pools={"mail": pool}), whole=True)
        assert run.status == 0, run.output
        first, nodes = site.machine.show("celery-worker-mail", "Id"), list(site.workers())
        eventually(lambda: site.executed(sender.ids[:1]), 60)
        one = at_once("one", 1)

        run = site.deploy(release, *choices(celery_worker_pools={"mail": pool | {"concurrency": 2}}), whole=True)
        assert run.status == 0, run.output
        second = site.machine.show("celery-worker-mail", "Id")
        eventually(lambda: site.units().get(first, "inactive") == "inactive", 60)
        two = at_once("two", 2)

        # The project feeds its queue.
        unread = site.deploy(release, *choices(celery_worker_queues=["celery"]), whole=True)

        word, began = f"word-{uuid4()}", time.time()
        [long] = site.send("probe.long", "last", 1, word, queue="mail")
        eventually(lambda: site.runs("last started", began), 60)
        run = site.deploy(release, *choices(celery_worker_queues=["celery", "mail"]), whole=True)
        assert run.status == 0, run.output
        drained = site.machine.show(second, "ActiveState")
        status = site.start("playbooks/status.yml").wait().output
    site.send("probe.quick", word)
    eventually(lambda: len(site.executed(sender.ids)) == len(sender.ids), 90)
    eventually(lambda: site.runs("last", began), 60)
    return Scene(sender.ids, sender.refused, (first, second), nodes, (one, two), unread, drained, long, status)


def test_a_pool_has_a_unit_and_a_node_of_its_own(scene: Scene, site: Site) -> None:
    first, second = scene.units

    assert re.fullmatch(r"celery-worker-mail-[0-9a-f]{12}(-\d+)?\.service", first)
    assert {node.partition("@")[0] for node in scene.nodes} >= {first.removesuffix(".service")}
    assert first != second
    assert scene.at_once == (1, 2)


def test_no_task_is_lost_while_a_pool_comes_changes_and_goes(scene: Scene, site: Site, figures: list[str]) -> None:
    executed = site.executed(scene.sent)
    figures.append(f"a pool that came, changed and went: {len(scene.sent)} tasks, {sum(executed.values())} executions")

    assert scene.refused == []
    assert len(scene.sent) > 50
    assert set(executed) == set(scene.sent)


def test_a_queue_that_no_worker_reads_any_more_is_refused(scene: Scene) -> None:
    assert scene.unread.status != 0
    assert "The task probe.mail sends to the queue mail, and no worker reads it" in scene.unread.output
    assert "celery_worker_pools: { mail: { queues: [mail] } }" in scene.unread.output


def test_a_pool_that_goes_ends_what_it_runs(scene: Scene, site: Site) -> None:
    assert scene.drained == "deactivating"
    assert f"drains: {scene.units[1]}" in scene.status
    [(_, _, release, _)] = [run for run in site.runs("last") if run[1] == scene.long]
    assert release in scene.units[1]


def test_of_a_pool_that_is_gone_nothing_stays(scene: Scene, site: Site) -> None:
    eventually(lambda: site.machine.show(scene.units[1], "ActiveState") != "deactivating", 60)
    run = site.deploy(site.make())
    assert run.status == 0, run.output

    found = site.machine.root.check_output("find /etc /run/systemd /sys/fs/cgroup -name 'celery-worker-mail*'")
    assert found == ""
    assert site.machine.show("celery-worker-mail", "LoadState") == "not-found"
