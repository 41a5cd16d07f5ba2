"""Tasks that are on their way while the release changes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from uuid import uuid4

import pytest
from stack.lab import DRAIN_SECONDS, Site
from stack.releases import Release, append
from stack.upgrading import only_in_full

from testkit.waiting import eventually

UNITS = ("celery-worker",)
PUNCTUAL_SECONDS = 5
# A deploy is over before one of these, on a busy computer too, and the old worker drains until that one is due.
COUNTDOWNS = (12, 18, 24, 32, 40, 50, 60, 80, 110)
FRESH = '''
@shared_task(bind=True, name="probe.fresh", ignore_result=True)
def fresh(self: Any, name: str) -> None:
    """Write down that it was executed."""
    note(self.request.id, name)
'''


@dataclass(frozen=True)
class Scene:
    """A deploy while a worker runs one task, holds others, and has heard that one of those is revoked.

    Attributes:
        old, new: the releases.
        ping: what the least that Ansible can do took, in seconds.
        deploy: what the deploy took, in seconds.
        drained: from when to when the old worker was seen to drain, Unix time.
        long: id of the task that ran.
        held: the ids of the tasks with a countdown, with when they were due, Unix time.
        revoked: the one that must not run.
    """

    old: Release
    new: Release
    ping: float
    deploy: float
    drained: tuple[float, float]
    long: str
    held: dict[str, float]
    revoked: str


@pytest.fixture(scope="module")
def scene(site: Site, full: bool) -> Scene:
    """The deploy, told when the last of the tasks was over."""
    old, new, ping = site.healthy(), site.make(), site.ping()
    word = f"word-{uuid4()}"
    began = time.time()
    [long] = site.send("probe.long", "long", 60 if full else 20, word)
    eventually(lambda: site.runs("long started", began), 20)
    held = {}
    for each in COUNTDOWNS:
        due = time.time() + each  # or a little later: sending takes a while
        held[site.send("probe.quick", "held", countdown=each)[0]] = due
    [revoked] = site.send("probe.quick", "revoked", countdown=COUNTDOWNS[0])
    site.broadcast("revoke", site.node(), task_id=revoked)
    unit = site.machine.show("celery-worker", "Id")

    play = site.start_deploy(new)
    run = play.wait()
    assert run.status == 0, run.output
    drains = time.time()
    assert site.units()[unit] == "deactivating"
    due = min((each for each in held.values() if each > drains + 1), default=0)
    eventually(lambda: time.time() > due + 1, 20)
    assert time.time() - began < DRAIN_SECONDS
    assert site.units()[unit] == "deactivating"
    drained = (drains, time.time())
    site.send("probe.quick", word)
    eventually(lambda: site.runs("long", began), 90)
    eventually(lambda: len(site.executed(held)) == len(held), COUNTDOWNS[-1] + 20)
    return Scene(old, new, ping, play.seconds, drained, long, held, revoked)


def test_deploy_does_not_wait_for_a_running_task(scene: Scene, figures: list[str]) -> None:
    figures.append(f"deploy beside a long task: {scene.deploy:.1f} s, `ansible -m ping` {scene.ping:.1f} s")

    # The task would have gone on for ever; so a deploy that waits for it waits for the end of the drain.
    assert scene.deploy < DRAIN_SECONDS


def test_running_task_ends_in_its_release_with_what_it_imports_late(scene: Scene, site: Site) -> None:
    [(at, _, release, marker)] = [run for run in site.runs("long") if run[1] == scene.long]

    assert at > scene.drained[1]
    assert (release, marker) == (scene.old.name, scene.old.source.name)


def test_tasks_that_a_draining_worker_held_are_punctual(scene: Scene, site: Site, figures: list[str]) -> None:
    late = {task: (at - scene.held[task], release) for at, task, release, _ in site.runs("held") if task in scene.held}
    overlapped = [task for task, due in scene.held.items() if scene.drained[0] < due < scene.drained[1]]

    figures.append(f"tasks with a countdown, the latest: {max(late.values())[0]:.2f} s after its time")
    assert {task: seconds for task, (seconds, _) in late.items() if not -0.5 < seconds < PUNCTUAL_SECONDS} == {}
    # The old worker would have run them where it still could, but it gave them back.
    assert overlapped
    assert {late[task][1] for task in overlapped} == {scene.new.name}
    assert len(site.executed(scene.held)) == sum(site.executed(scene.held).values())


def test_task_that_was_revoked_before_the_deploy_never_runs(scene: Scene, site: Site) -> None:
    # It was due when the first of the others was, and the last of them has run.
    assert site.runs("held")[-1][0] > min(scene.held.values()) + 2 * PUNCTUAL_SECONDS
    assert not site.executed([scene.revoked])


def test_tasks_that_only_an_undone_release_knows_wait_for_the_next(site: Site, figures: list[str]) -> None:
    site.healthy()
    new = site.make(lambda source: append(source / "probe/tasks.py", FRESH))
    run = site.deploy(new)
    assert run.status == 0, run.output
    # The workers of the release before have ended, and the one of this release has its hands full.
    eventually(lambda: list(site.workers()) == [site.node()], 30)
    word = f"word-{uuid4()}"
    began = time.time()
    site.send("probe.long", "busy", 1, word, count=2)
    eventually(lambda: len(site.runs("busy started", began)) == 2, 20)
    ids = site.send("probe.fresh", "fresh", count=50)
    run = site.start("playbooks/rollback.yml").wait()
    assert run.status == 0, run.output
    site.send("probe.quick", word)

    # What has come after them is executed, so they were received, by a worker that does not know them.
    site.works(60)
    eventually(lambda: site.queues().get("celeriac.unknown") == len(ids), 30)
    assert not site.executed(ids)
    run = site.deploy(site.make(lambda source: append(source / "probe/tasks.py", FRESH)))
    assert run.status == 0, run.output
    ended = time.time()
    eventually(lambda: len(site.executed(ids)) == len(ids), 90)
    figures.append(
        f"50 parked tasks: executed {time.time() - ended:.1f} s after the deploy of a release that knows them"
    )


@only_in_full
def test_a_third_drain_ends_the_oldest_softly(site: Site) -> None:
    word, began, drains = f"word-{uuid4()}", time.time(), []

    def ran(name: str, times: int = 1) -> None:
        eventually(lambda: len(site.runs(name, began)) == times, 20)

    for name in ("first", "second", "third"):
        site.healthy()
        site.send("probe.long", name, 1, word)
        ran(f"{name} started")
        drains.append((site.machine.show("celery-worker", "Id"), time.time()))
        run = site.deploy(site.make())
        assert run.status == 0, run.output
    (oldest, since), *younger = drains

    eventually(lambda: site.units().get(oldest, "inactive") == "inactive", 20)
    assert time.time() - since < DRAIN_SECONDS, "it may have ended by itself"
    assert [site.units()[unit] for unit, _ in younger] == ["deactivating"] * 2
    # What it ran begins again, on a worker that takes tasks; nothing else does.
    ran("first started", times=2)
    site.send("probe.quick", word)
    for name in ("first", "second", "third"):
        ran(name)
    assert [len(site.runs(f"{name} started", began)) for name in ("first", "second", "third")] == [2, 1, 1]


def test_a_changed_choice_is_switched_in_like_a_release(site: Site) -> None:
    release = site.healthy()
    before = site.machine.show("celery-worker", "Id")
    run = site.deploy(release, "--extra-vars", "{celery_worker_concurrency: 3}", whole=True)

    assert run.status == 0, run.output
    after = site.machine.show("celery-worker", "Id")
    assert after != before
    assert site.faults(release.name) == []
    eventually(lambda: site.units().get(before, "inactive") == "inactive", 30)
    # Three at once, where two were the most.
    word, began = f"word-{uuid4()}", time.time()
    site.send("probe.long", "at once", 1, word, count=3)
    eventually(lambda: len(site.runs("at once started", began)) == 3, 20)
    assert site.deploy(release, whole=True).status == 0
    site.send("probe.quick", word)
    eventually(lambda: len(site.runs("at once", began)) == 3, 20)
