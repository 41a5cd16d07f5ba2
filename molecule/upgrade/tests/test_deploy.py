"""Deploys in a row, under full load: nothing fails, nothing is lost, and the schedule goes on."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from stack.lab import Site
from stack.load import Answer, Load, failures, percentile
from stack.playbook import Run
from stack.releases import Release

from testkit.waiting import eventually

# What p99 is compared with: this long before a deploy begins.
BEFORE_SECONDS = 10


@dataclass(frozen=True)
class Shipped:
    """A deploy under load: its release, how it ended, and when (Unix time)."""

    release: Release
    run: Run
    began: float
    ended: float


@dataclass(frozen=True)
class Series:
    """Deploys in a row, and the load that went on meanwhile and a while after."""

    first: Release
    shipped: list[Shipped]
    load: Load
    began: float
    ended: float

    @property
    def answers(self) -> list[Answer]:
        """Everything that was answered."""
        return self.load.answers()

    def slowdown(self, shipped: Shipped) -> float:
        """Return p99 of the requests in the window of a deploy over p99 just before it."""
        before = self.load.answers(shipped.began - BEFORE_SECONDS, shipped.began)
        during = self.load.answers(shipped.began, shipped.ended)
        return percentile(during, 99) / percentile(before, 99)


@pytest.fixture(scope="module")
def series(site: Site, folder: Path, full: bool) -> Iterator[Series]:
    """Three deploys, or ten under twice the load."""
    first = site.healthy()
    site.machine.root.check_output("runuser -u site -- sh -c 'echo uploaded > /srv/site/data/media/it'")
    shipped = []
    with Load(site.plan() if full else site.plan(requests=20, tasks=10), folder / "series.txt") as load:
        began = time.time()
        for _ in range(10 if full else 3):
            time.sleep(BEFORE_SECONDS)  # the load as it is without a deploy
            release = site.make()
            play = site.start_deploy(release, whole=True)
            shipped.append(Shipped(release, play.wait(), play.began, play.ended))
        time.sleep(BEFORE_SECONDS)
        load.stop()
        yield Series(first, shipped, load, began, time.time())


def test_each_deploy_ends_green(series: Series, figures: list[str]) -> None:
    for shipped in series.shipped:
        assert shipped.run.status == 0, shipped.run.output

    # How quick it stays is measured by `bin/bench deploy-p99`: here Ansible works on the processors of the site.
    for shipped in series.shipped:
        seconds = shipped.ended - shipped.began
        figures.append(f"deploy {shipped.release.name}: {seconds:.1f} s, p99 {series.slowdown(shipped):.2f} of before")


def test_no_request_fails(series: Series) -> None:
    assert failures(series.answers) == []


def test_every_release_serves(series: Series) -> None:
    answered = {answer.release for answer in series.answers if answer.kind == "page"}

    assert answered == {release.name for release in [series.first, *(shipped.release for shipped in series.shipped)]}


def test_after_a_deploy_only_the_new_release_answers(series: Series) -> None:
    ends = [*(shipped.began for shipped in series.shipped[1:]), series.ended]
    for shipped, end in zip(series.shipped, ends, strict=True):
        # A request that was begun before the old process was told to stop may be answered a moment later.
        answered = {answer.release for answer in series.load.answers(shipped.ended + 1, end) if answer.release}
        assert answered == {shipped.release.name}


def test_what_was_uploaded_outlives_every_release(series: Series, site: Site) -> None:
    assert site.web.get("/media/it").text == "uploaded\n"


def test_no_task_is_lost(series: Series, site: Site) -> None:
    accepted = series.load.accepted()
    assert len(accepted) > 100

    # Set by set, so that a failure names what is missing.
    eventually(lambda: not accepted - site.executions(series.began).keys(), 30, pause=1)


def test_no_task_is_executed_twice(series: Series, site: Site, figures: list[str]) -> None:
    accepted = series.load.accepted()
    twice = {task: count for task, count in site.executions(series.began).items() if count > 1 and task in accepted}

    figures.append(f"tasks executed more than once: {len(twice)} of {len(accepted)}")
    # Not one has to be: a worker that drains finishes what it has begun.
    assert twice == {}


def test_the_schedule_of_a_second_keeps_its_step(series: Series, site: Site, figures: list[str]) -> None:
    ticks = sorted(site.ticks(series.began, series.ended), key=lambda tick: tick.sent)
    pairs = list(itertools.pairwise(ticks))
    sent = [later.sent - earlier.sent for earlier, later in pairs]
    ended = [later.ended - earlier.ended for earlier, later in pairs]

    for what, gaps in (("sends", sent), ("runs", ended)):
        figures.append(
            f"a schedule of one second, between two {what}: {min(gaps):.2f} s to {max(gaps):.2f} s, {len(gaps)} times"
        )
    # Two soon one after the other were sent twice; of runs that may also be a worker that had to wait for a processor.
    assert [pair for pair, gap in zip(pairs, sent, strict=True) if not 0.5 <= gap <= 10] == []
    assert [pair for pair, gap in zip(pairs, ended, strict=True) if gap > 10] == []
