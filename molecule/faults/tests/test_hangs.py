"""Processes that hang, and a broker that goes away: work goes on without a person. Who is paused on purpose is left."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from stack.lab import TICK, WATCHDOG_SECONDS, Site
from stack.load import Load
from stack.releases import Release

from testkit.waiting import eventually

UNITS = ("celery-worker", "celery-beat", "redis-server")
WORKER, BEAT, REDIS = "celery-worker", "celery-beat", "redis-server"
REDIS_PORT = 6379
# From the moment in which the broker can be reached.
BACK_SECONDS = 1.5 * WATCHDOG_SECONDS + 10
CUT_SECONDS = 20
KILLS = 5
# What was accepted meanwhile is executed by then: a lease is over after 10 s.
EXECUTED_SECONDS = 90
OURS = "this worker hangs and is to be replaced"
SYSTEMD = "Watchdog timeout"


@dataclass(frozen=True)
class Hang:
    """A way in which a worker stops to work without ending.

    Attributes:
        name: of the test.
        begin: causes it; a context manager that ends what would outlive the worker.
        says: what the journal must say of it, a regular expression.
    """

    name: str
    begin: Callable[[Site, Release], AbstractContextManager[None]]
    says: str


def frozen(site: Site, serving: Release) -> AbstractContextManager[None]:
    """Stop its main process, as a debugger does."""
    site.machine.systemctl("kill", "--kill-whom=main", "--signal=STOP", WORKER)
    return nullcontext()


def wedged(site: Site, serving: Release) -> AbstractContextManager[None]:
    """Let its event loop stand still."""
    site.broadcast("probe_wedge", site.node(), seconds=3600)
    return nullcontext()


def without_consumer(site: Site, serving: Release) -> AbstractContextManager[None]:
    """Let it receive nothing, while its event loop turns."""
    site.broadcast("probe_drop_consumer", site.node())
    return nullcontext()


@contextmanager
def half_open(site: Site, serving: Release) -> Iterator[None]:
    """Swallow every packet of the connections that it has to the broker; new ones work."""
    group = f"/system.slice/{site.machine.show(WORKER, 'Id')}"
    processes = site.machine.root.check_output(f"cat /sys/fs/cgroup{group}/cgroup.procs").split()
    shown = site.machine.root.check_output(f"ss -Htnp state established dst 127.0.0.1:{REDIS_PORT}")
    owned = re.compile(rf"127\.0\.0\.1:(\d+) +127\.0\.0\.1:{REDIS_PORT} .*pid=({'|'.join(processes)}),")
    ports = ", ".join(found[1] for found in map(owned.search, shown.splitlines()) if found)
    assert ports, shown
    with dropped(
        site, f"tcp sport {{ {ports} }} tcp dport {REDIS_PORT}", f"tcp dport {{ {ports} }} tcp sport {REDIS_PORT}"
    ):
        yield


@contextmanager
def dropped(site: Site, *matches: str) -> Iterator[None]:
    """Let the kernel drop packets, without a word to either side."""
    rules = "".join(f"add rule ip broken out {match} drop\n" for match in matches)
    chain = "add chain ip broken out { type filter hook output priority 0; }\n"
    site.machine.feed(f"add table ip broken\n{chain}{rules}", "nft", "-f", "-")
    try:
        yield
    finally:
        site.machine.feed("delete table ip broken", "nft", "-f", "-")


@contextmanager
def stopped(site: Site) -> Iterator[None]:
    """Stop Redis: connections are closed, and refused."""
    with site.machine.stopped(REDIS):
        yield


@contextmanager
def unreachable(site: Site) -> Iterator[None]:
    """Swallow every packet to and from Redis."""
    with dropped(site, f"tcp sport {REDIS_PORT}", f"tcp dport {REDIS_PORT}"):
        yield


HANGS = [
    Hang("frozen-process", frozen, SYSTEMD),
    Hang("wedged-event-loop", wedged, f"{OURS}: the event loop has not ticked"),
    Hang("consumer-alone-is-gone", without_consumer, f"{OURS}: .* nothing was received"),
    # Which of them notices first is a matter of the moment: our watchdog, or kombu, which waited in vain for an answer.
    Hang(
        "half-open-connections",
        half_open,
        f"{OURS}|Connection to broker lost|consumer: Cannot connect|dropping stale connection",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def nftables(site: Site) -> None:
    """What drops packets."""
    site.machine.root.check_output("apt-get install --yes --quiet --no-install-recommends nftables")


@pytest.fixture(autouse=True)
def mended(site: Site) -> Iterator[None]:
    """Leave a site that works, also where the test has shown that it does not mend itself."""
    yield
    try:
        site.works(5)
    except AssertionError:
        site.machine.systemctl("kill", "--signal=KILL", WORKER, BEAT)
        site.works(60)


def back_at_work(site: Site, since: float) -> float:
    """Wait until tasks that are sent now are executed; return how long after `since` that was, in seconds."""
    sent: list[str] = []

    def executed() -> bool:
        sent.extend(site.send("probe.quick", "back"))
        return bool(site.executed(sent))

    eventually(executed, BACK_SECONDS, pause=0.5)
    first = min(at for at, task, *_ in site.runs("back", since) if task in sent)
    return first - since


@pytest.mark.parametrize("hang", HANGS, ids=lambda hang: hang.name)
def test_worker_that_hangs_is_replaced(site: Site, serving: Release, hang: Hang, figures: list[str]) -> None:
    site.works(30)
    since = time.time()
    with hang.begin(site, serving):
        took = back_at_work(site, since)

        figures.append(f"{hang.name}: back after {took:.1f} s, WatchdogSec {WATCHDOG_SECONDS} s")
        assert re.search(hang.says, site.journal(WORKER, since)), site.journal(WORKER, since)
    assert site.faults(serving.name) == []


@pytest.mark.parametrize("cut", [stopped, unreachable], ids=lambda cut: str(cut.__name__))
def test_broker_that_was_away_is_found_again(
    site: Site, serving: Release, cut: Callable[[Site], AbstractContextManager[None]], figures: list[str]
) -> None:
    site.works(30)
    began, invocation = time.time(), site.machine.show(WORKER, "InvocationID")
    # One runs through it, one waits for its time.
    kept = site.send("probe.quick", "running", CUT_SECONDS + 10) + site.send("probe.quick", "held", countdown=30)
    with cut(site):
        time.sleep(CUT_SECONDS)
    since = time.time()
    took = back_at_work(site, since)

    figures.append(f"Redis {cut.__name__} for {CUT_SECONDS} s: back {took:.1f} s after it")
    # The schedule too.
    eventually(lambda: site.runs(TICK, since), BACK_SECONDS)
    # Whoever waits for the broker does not hang.
    said = site.journal(WORKER, began) + site.journal(BEAT, began)
    assert SYSTEMD not in said and OURS not in said, said
    # Nor does it end with what it has.
    eventually(lambda: len(site.executed(kept)) == len(kept), BACK_SECONDS + 10)
    assert set(site.executed(kept).values()) == {1}
    assert site.machine.show(WORKER, "InvocationID") == invocation
    assert site.faults(serving.name) == []


@pytest.fixture(scope="module")
def meanwhile() -> list[str]:
    """The ids of the tasks that were accepted while Redis was killed."""
    return []


def test_redis_that_is_killed_again_and_again(
    site: Site, serving: Release, folder: Path, meanwhile: list[str], figures: list[str]
) -> None:
    took = []
    with Load(site.plan(requests=0, tasks=20, probe=True), folder / "kills.txt") as load:
        for _ in range(KILLS):
            site.works(30)
            site.machine.kill(REDIS)
            took.append(back_at_work(site, time.time()))
        load.stop()
    meanwhile += load.accepted()
    figures.append("Redis killed five times: back after " + ", ".join(f"{each:.1f} s" for each in took))


def test_beat_that_hangs_is_replaced(site: Site, serving: Release, figures: list[str]) -> None:
    site.machine.systemctl("kill", "--kill-whom=main", "--signal=STOP", BEAT)
    since = time.time()
    # What it had sent before is executed by then.
    eventually(lambda: time.time() > since + 3, 5)

    eventually(lambda: site.runs(TICK, since + 3), BACK_SECONDS)
    took = site.runs(TICK, since + 3)[0][0] - since
    figures.append(f"frozen beat: back after {took:.1f} s")
    assert re.search(SYSTEMD, site.journal(BEAT, since)), site.journal(BEAT, since)


def test_worker_that_is_paused_on_purpose_is_left_alone(site: Site, serving: Release) -> None:
    worker, began = site.node(), time.time()
    before = site.machine.show(WORKER, "InvocationID")
    site.machine.root.check_output(f"site-celery control --destination {worker} cancel_consumer celery")
    waiting = site.send("probe.quick", "paused", count=5)

    time.sleep(BACK_SECONDS)

    assert site.machine.show(WORKER, "InvocationID") == before
    assert not site.executed(waiting), "it was not paused: this proves nothing"
    assert OURS not in site.journal(WORKER, began)
    site.machine.root.check_output(f"site-celery control --destination {worker} add_consumer celery")
    eventually(lambda: len(site.executed(waiting)) == len(waiting), 30)


def test_killing_redis_loses_nothing(site: Site, meanwhile: list[str], figures: list[str]) -> None:
    accepted = set(meanwhile)
    assert len(accepted) > 200

    with suppress(AssertionError):  # counted below
        eventually(lambda: not accepted - set(site.executed(accepted)), EXECUTED_SECONDS, pause=2)
    executed = site.executed(accepted)
    lost, twice = len(accepted) - len(executed), sum(count > 1 for count in executed.values())
    figures.append(f"of {len(accepted)} tasks meanwhile: {lost} lost, {twice} executed more than once")
    assert not lost
