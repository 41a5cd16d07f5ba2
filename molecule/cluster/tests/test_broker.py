"""Three hosts are the broker: any of them is lost, then all, and no task that was accepted.

The tests are in the order in which this happens to the machines; each leaves a broker that is whole.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from stack.brokers import BROKERS, GROUPS, HOSTS, REST, Brokers
from stack.lab import CHOICES, MACHINE
from stack.load import Load
from stack.machine import Machine
from stack.releases import Workshop

from testkit.waiting import eventually

ONE, TWO, THREE = BROKERS
# What RabbitMQ says to who wants to speak AMQP 0-9-1; nothing, or an error, where it is not there.
GREETED = """
import socket
for _ in range(30):
    with socket.create_connection(("127.0.0.1", 5670), timeout=5) as connection:
        connection.sendall(b"AMQP\\0\\0\\x09\\x01")
        assert connection.recv(100), "nobody is there"
"""


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Brokers]:
    """The deployed site, with the first release and a schedule of one second."""
    debian = os.environ.get("CELERIAC_DEBIAN", "13")
    subprocess.run([MACHINE, "up", *HOSTS, "--debian", debian], check=True)
    try:
        found = {name: json.loads(subprocess.check_output([MACHINE, "inventory", name])) for name in HOSTS}
        children: dict[str, object] = {
            group: {"hosts": {name: {} for name in names}} for group, names in GROUPS.items()
        }
        folders = {"site_data_folders": [], "site_media_url": "", "site_private_folders": []}
        # The first worker of a new cluster makes 28 queues on three hosts before its event loop turns.
        patience = {"site_watchdog_seconds": 60, "site_start_timeout_seconds": 120}
        choices = {**CHOICES, **folders, **patience, "site_broker": "rabbitmq"}
        inventory = folder / "brokers.json"
        inventory.write_text(json.dumps({"all": {"hosts": found, "vars": choices, "children": children}}))
        machines = {name: Machine(name, inventory, folder) for name in HOSTS}
        site = Brokers(machines, Workshop(folder, probe=True), folder)
        (folder / "converge-brokers.txt").write_text(site.converge().output)
        yield site
    finally:
        subprocess.run([MACHINE, "down", *HOSTS], check=True)


def executed_all(site: Brokers, tasks: set[str]) -> dict[str, int]:
    """Wait until each of these tasks was executed, and return how often."""
    eventually(lambda: not tasks - site.executed(tasks).keys(), 180, pause=1)
    return dict(site.executed(tasks))


def longest_pause(site: Brokers, since: float) -> float:
    """Return for how many seconds at most no task of the load ended."""
    rows = site.sql(f"SELECT extract(epoch FROM at) FROM probe_run WHERE at >= to_timestamp({since}) ORDER BY at")
    ends = [float(row[0]) for row in rows]
    return max(after - before for before, after in itertools.pairwise(ends))


def test_each_queue_that_lasts_is_on_all_of_them(site: Brokers) -> None:
    kinds = site.types()
    assert set(kinds.values()) == {"quorum"}, kinds
    assert "celery" in kinds


@pytest.mark.parametrize("name", BROKERS)
def test_nobody_but_members_finds_a_node(site: Brokers, name: str) -> None:
    listening = site.machines[name].root.check_output("ss --no-header --listening --tcp --numeric")
    places = [line.split()[3] for line in listening.splitlines()]
    address = site.machines[name].address
    assert {place for place in places if place.endswith(":5672")} == {"127.0.0.1:5672"}
    assert {place for place in places if place.endswith(":25672")} == {f"{address}:25672"}
    for port in (4369, 25672):
        assert site.machines[REST].root.run(f"timeout 3 bash -c '> /dev/tcp/{address}/{port}'").failed, port


@pytest.mark.parametrize("which", ["the queue's leader", *BROKERS])
def test_a_lost_host_costs_no_accepted_task(
    site: Brokers, folder: Path, figures: list[str], full: bool, which: str
) -> None:
    leader = site.leader()
    if not full and which in BROKERS:
        pytest.skip("only in a full run")
    name = which if which in BROKERS else leader
    role = "the queue's leader" if name == leader else "a follower"
    with Load(site.plan(requests=1, tasks=20, probe=True), folder / f"lost-{name}.txt") as load:
        eventually(lambda: len(load.accepted()) > 100, 60)
        began = time.time()
        site.lose(name)
        at_loss = len(load.accepted())
        eventually(lambda: len(load.accepted()) > at_loss + 300, 180, pause=0.5)
        load.stop()
        accepted = load.accepted()
    found = executed_all(site, accepted)
    twice = sum(times > 1 for times in found.values())
    pause = longest_pause(site, began - 2)
    figures.append(
        f"{name} lost, {role}: {len(found)} tasks accepted, 0 lost, {twice} run twice, {pause:.1f} s without any"
    )
    site.boot(name)
    eventually(site.is_whole, 180, pause=2)


def test_a_host_without_its_cable_stops_by_itself_and_comes_back(
    site: Brokers, folder: Path, figures: list[str]
) -> None:
    with Load(site.plan(requests=1, tasks=20, probe=True), folder / "cable.txt") as load:
        eventually(lambda: len(load.accepted()) > 100, 60)
        began = time.time()
        site.unplug(TWO)
        at_loss = len(load.accepted())
        eventually(lambda: len(load.accepted()) > at_loss + 400, 180, pause=0.5)
        site.plug(TWO)
        eventually(site.is_whole, 180, pause=2)
        load.stop()
        accepted = load.accepted()
    found = executed_all(site, accepted)
    twice = sum(times > 1 for times in found.values())
    pause = longest_pause(site, began - 2)
    figures.append(
        f"cable of {TWO} pulled: {len(found)} accepted, 0 lost, {twice} run twice, {pause:.1f} s without any"
    )


def greeted(machine: Machine) -> bool:
    """Return whether each of many connections through the port for processes reaches a broker."""
    return bool(machine.root.run(f"python3 -c '{GREETED}'").succeeded)


def test_a_member_whose_engine_has_stopped_is_asked_by_nobody(site: Brokers) -> None:
    site.machines[TWO].systemctl("stop", "rabbitmq-server")
    for machine in (site.machines[REST], site.machines[TWO]):
        eventually(partial(greeted, machine), 30)
    site.machines[TWO].systemctl("start", "rabbitmq-server")
    eventually(site.is_whole, 120, pause=2)


def sent(site: Brokers, word: str, count: int, countdown: float = 0) -> set[str]:
    """Send tasks until it is done: the probe tries once, and each of its connections may have ended with a host."""
    for _ in range(50):
        with suppress(AssertionError):
            return set(site.send("probe.quick", word, count=count, countdown=countdown or None))
        time.sleep(0.5)
    raise AssertionError("no web process could send")


def test_all_of_them_lost_at_once_come_back_with_what_waited(site: Brokers, figures: list[str]) -> None:
    at_once = sent(site, "at once", 100)
    later = sent(site, "later", 50, countdown=30)
    site.lose(*BROKERS)
    site.boot(*BROKERS)
    eventually(site.is_whole, 240, pause=2)
    found = executed_all(site, at_once | later)
    twice = sum(times > 1 for times in found.values())
    figures.append(f"all lost at once: {len(found)} tasks accepted before, 0 lost, {twice} run twice")


def test_a_change_goes_from_one_to_the_next_and_nobody_feels_it(
    site: Brokers, folder: Path, figures: list[str], full: bool
) -> None:
    if not full:
        pytest.skip("only in a full run")
    began = time.time()
    with Load(site.plan(requests=1, tasks=20, probe=True), folder / "change.txt") as load:
        run = site.converge_again(rabbitmq_free_disk_mb=201)
        load.stop()
        accepted = load.accepted()
    assert run.status == 0, run.output
    found = executed_all(site, accepted)
    pause = longest_pause(site, began)
    figures.append(f"all restarted by a run: {len(found)} tasks accepted, 0 lost, {pause:.1f} s without any")


def test_a_second_run_changes_nothing(site: Brokers, full: bool) -> None:
    run = site.converge_again(**({"rabbitmq_free_disk_mb": 201} if full else {}))
    assert run.status == 0, run.output
    assert run.changed == 0
