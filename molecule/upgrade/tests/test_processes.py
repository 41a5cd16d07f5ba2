"""What an inventory adds comes, changes and goes under load: pools of workers, commands, timers."""

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

UNITS = ("celery-worker", "celery-worker-mail", "looper", "twins", "periodic")
# The roles that describe what is chosen here, and the transaction.
ROLES = ("--tags", "always,site_host,celery_worker,site_commands,site_timers")
STOP_SECONDS = 5
LINES = 100_000
# Between two tasks that are sent, and between two looks at what runs beside each other for seconds.
SENDING_SECONDS = 0.8
LOOKING_SECONDS = 0.4


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
        while not self._over.wait(SENDING_SECONDS):
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
        began: when all of it did, Unix time.
        old: the release with which all of it came.
        new: the one with which it changed.
        again: how often a command had begun before and after it was killed, and how often systemd has started it again.
        twins: which units of a command ran beside each other in a deploy.
        ended: the deploy with a command that ends at once, and what each alias stood for before and after.
        deaf: how the command that no signal ends was ended.
        health: what the site said of itself when a timer's command had failed.
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
    began: float
    old: str
    new: str
    again: list[int]
    twins: set[str]
    ended: tuple[Run, dict[str, str], dict[str, str]]
    deaf: str
    health: str


def running(site: Site, name: str) -> set[str]:
    """Return the units of a process that run."""
    shown = site.machine.root.check_output(f"systemctl list-units --plain --no-legend '{name}-*.service'")
    return {line.split()[0] for line in shown.splitlines() if " active running " in " ".join(line.split())}


@pytest.fixture(scope="module")
def scene(site: Site, light_load: Load) -> Scene:
    """What happened to all of it under load."""
    old, new = site.healthy(), site.make()
    pool: dict[str, object] = {"queues": ["mail"], "concurrency": 1, "nice": 5}
    word, began = f"word-{uuid4()}", time.time()
    for_ever = {"settle_seconds": 3, "stop_seconds": STOP_SECONDS}
    commands: dict[str, dict[str, object]] = {
        "looper": {"command": ["probe_run", "looper", "--for-ever", "--deaf"], **for_ever},
        "twins": {"command": ["probe_run", "twins $HOME 100%", "--for-ever"], "overlap": True, **for_ever},
        "flood": {"command": ["probe_run", "flood", "--for-ever", "--lines", LINES], **for_ever},
    }
    timers: dict[str, dict[str, object]] = {
        # It does not end before the word.
        "periodic": {"command": ["probe_run", "periodic", "--until", word], "every": "*:*:0/4"},
        "nightly": {"command": ["probe_run", "nightly"], "every": "*-01-01 03:00 UTC"},
        "broken": {"command": ["probe_run", "broken", "--fail"], "every": "*-01-01 03:00 UTC"},
    }
    broken = {"broken": timers.pop("broken")}

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

    def miss(name: str) -> None:
        """Let a timer find that it has missed its time."""
        stamp = f"/var/lib/systemd/timers/stamp-{name}.timer"
        site.machine.root.check_output(f"touch --date=2020-01-01 {stamp} && systemctl restart {name}.timer")

    def aliases() -> dict[str, str]:
        return {name: site.machine.show(name, "Id") for name in ("looper", "twins", "celery-worker", "gunicorn")}

    with sending(site, "mail") as sender:
        here = {"celery_worker_pools": {"mail": pool}, "site_commands": commands, "site_timers": timers}
        run = site.deploy(old, *choices(**here), whole=True)
        assert run.status == 0, run.output
        first, nodes = site.machine.show("celery-worker-mail", "Id"), list(site.workers())
        eventually(lambda: site.executed(sender.ids[:1]), 60)
        one = at_once("one", 1)
        eventually(lambda: site.runs("periodic began", began), 60)
        miss("nightly")
        eventually(lambda: site.runs("nightly ended", began), 60)

        begun = site.runs("twins $HOME 100% began", began)
        site.machine.root.check_output("systemctl kill --signal=KILL twins")
        eventually(lambda: len(site.runs("twins $HOME 100% began", began)) > len(begun), 60)
        again = [
            len(begun),
            len(site.runs("twins $HOME 100% began", began)),
            int(site.machine.show("twins", "NRestarts")),
        ]

        before = aliases()
        # No Django is begun with, which takes longer the busier a computer is.
        ended = ["python", "-c", "raise SystemExit('this was to fail')"]
        bad: dict[str, dict[str, object]] = {"looper": {"program": ended, **for_ever, "settle_seconds": 15}}
        ends = site.deploy(old, *choices(**here | {"site_commands": commands | bad}), whole=True)
        after = aliases()

        here |= {"celery_worker_pools": {"mail": pool | {"concurrency": 2}}, "site_timers": timers | broken}
        play = site.start_deploy(new, *choices(**here), whole=True)
        seen: set[str] = set()
        while play.running():
            found = running(site, "twins")
            seen |= found if len(found) > 1 else set()
            time.sleep(LOOKING_SECONDS)
        run = play.wait()
        assert run.status == 0, run.output
        second = site.machine.show("celery-worker-mail", "Id")
        deaf = site.journal("looper", began)
        eventually(lambda: site.units().get(first, "inactive") == "inactive", 60)
        two = at_once("two", 2)
        miss("broken")
        eventually(lambda: site.machine.show("broken", "ActiveState") == "failed", 60)
        health = site.start("playbooks/health.yml", "--extra-vars", json.dumps(here)).wait().output
        status_of_timers = site.start("playbooks/status.yml", *choices(**here)).wait().output
        site.send("probe.quick", word)
        eventually(lambda: len(site.runs("periodic began", began)) > 2, 60)

        # The project feeds its queue.
        unread = site.deploy(new, *choices(celery_worker_queues=["celery"]), whole=True)

        word, at = f"word-{uuid4()}", time.time()
        [long] = site.send("probe.long", "last", 1, word, queue="mail")
        eventually(lambda: site.runs("last started", at), 60)
        run = site.deploy(new, *choices(celery_worker_queues=["celery", "mail"]), whole=True)
        assert run.status == 0, run.output
        drained = site.machine.show(second, "ActiveState")
        status = status_of_timers + site.start("playbooks/status.yml").wait().output
    site.send("probe.quick", word)
    eventually(lambda: len(site.executed(sender.ids)) == len(sender.ids), 90)
    eventually(lambda: site.runs("last", at), 60)
    return Scene(
        sender.ids, sender.refused, (first, second), nodes, (one, two), unread, drained, long, status,
        began, old.name, new.name, again, seen, (ends, before, after), deaf, health,
    )  # fmt: skip


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


def test_commands_that_may_overlap_do_and_others_do_not(scene: Scene, site: Site) -> None:
    assert {unit.split("-")[1].partition(".")[0] for unit in scene.twins} == {scene.old, scene.new}
    # The old one of the others was told to end, did not, and was killed before the new one began.
    names = f"looper-{scene.old}.service", f"looper-{scene.new}.service"
    killed = re.search(rf"{names[0]}: State 'stop-sigterm' timed out", scene.deaf)
    started = re.search(rf"Started {names[1]}", scene.deaf)
    assert killed
    assert started
    assert killed.start() < started.start()


def test_a_command_has_its_words_as_they_were_chosen(scene: Scene, site: Site) -> None:
    assert site.runs("twins $HOME 100% began", scene.began)


def test_a_command_that_is_killed_is_started_again(scene: Scene) -> None:
    assert scene.again == [1, 2, 1]


def test_a_command_that_ends_at_once_undoes_the_deploy(scene: Scene) -> None:
    run, before, after = scene.ended

    assert run.status != 0
    assert "step health failed" in run.output
    assert "this was to fail" in run.output
    assert after == before


def test_a_flood_of_words_does_not_fill_the_journal(scene: Scene, site: Site) -> None:
    count = site.machine.root.check_output(f"journalctl --unit=flood-{scene.old}.service --output=cat | wc -l")
    assert 0 < int(count) < LINES / 2


def test_a_run_of_a_timer_ends_in_its_release_and_the_next_waits_for_it(scene: Scene, site: Site) -> None:
    runs = sorted([*site.runs("periodic began", scene.began), *site.runs("periodic ended", scene.began)])

    assert [release for _, _, release, _ in runs[:2]] == [scene.old] * 2
    assert {release for _, _, release, _ in runs[2:]} == {scene.new}
    # One after the other, each of which is one process.
    pairs = [runs[number : number + 2] for number in range(0, len(runs) - 1, 2)]
    assert [began[1] for began, _ in pairs] == [ended[1] for _, ended in pairs]


def test_a_run_that_was_missed_is_made_up_for_once(scene: Scene, site: Site) -> None:
    assert len(site.runs("nightly ended", scene.began)) == 1


def test_a_timer_whose_command_fails_is_seen(scene: Scene) -> None:
    assert "The site is not well" in scene.health
    assert "the last run of broken-" in scene.health
    assert re.search(r"broken: FAILED at .* \(exit-code; journalctl -t broken\), next run at ", scene.status)
    assert "nightly: did not run in this release yet, next run at " in scene.status


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"site_timers": {"odd": {"command": ["check"], "every": "*-02-30"}}}, "systemd knows no such time to come"),
        ({"site_timers": {"odd": {"command": ["check"], "every": "sometimes"}}}, "systemd knows no such time to come"),
        ({"site_commands": {"ssh": {"command": ["check"]}}}, "The unit ssh.service of the host is somebody else's"),
    ],
)
def test_what_only_the_host_knows_is_refused_before_it_is_touched(
    site: Site, scene: Scene, chosen: dict[str, object], says: str
) -> None:
    run = site.deploy(site.healthy(), *choices(**chosen), whole=True)

    assert run.status != 0
    assert says in run.output
    assert "Nothing was changed." in run.output


def test_a_command_that_is_not_there_is_refused_before_anything_is_migrated(site: Site, scene: Scene) -> None:
    run = site.deploy(site.healthy(), *choices(site_commands={"odd": {"command": ["probe_rnu"]}}), whole=True)

    assert run.status != 0
    assert "site_commands: odd is manage.py probe_rnu, and the project has no such command (probe_run)" in run.output


def test_of_what_is_gone_nothing_stays(scene: Scene, site: Site) -> None:
    eventually(lambda: site.machine.show(scene.units[1], "ActiveState") != "deactivating", 60)
    run = site.deploy(site.make(), *choices(), whole=True)
    assert run.status == 0, run.output

    names = " -o ".join(
        f"-name '{name}*'" for name in ("celery-worker-mail", "looper", "twins", "periodic", "nightly", "odd")
    )
    found = site.machine.root.check_output(f"find /etc /run/systemd /sys/fs/cgroup {names}")
    assert found == ""
    assert site.machine.show("celery-worker-mail", "LoadState") == "not-found"
    assert site.machine.show("periodic.timer", "LoadState") == "not-found"
