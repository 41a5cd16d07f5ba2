"""Three hosts are the broker and the database: any of them is lost, then all, and nothing that was accepted.

The tests are in the order in which this happens to the machines; each leaves engines that are whole.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from stack.engines import ENGINES, REST, Engines
from stack.load import Load
from stack.machine import Machine
from stack.spread import deployed
from stack.upgrading import only_in_full

from testkit.waiting import eventually

ONE, TWO, THREE = ENGINES
# Sent a second, all the time that a test takes.
TASKS = 6.0
# Asks by TLS, with a certificate or without.
ASKED = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile="/etc/site/member/authority.pem")
if sys.argv[2:]:
    context.load_cert_chain(sys.argv[2])
print(urllib.request.urlopen(sys.argv[1], context=context, timeout=10).read())
"""
STRANGER = "/root/stranger.pem"
# What restarts the engines.
CHANGED = {"rabbitmq_free_disk_mb": 201, "postgresql_settings": {"max_connections": 150}}
# What RabbitMQ says to who wants to speak AMQP 0-9-1; nothing, or an error, where it is not there.
GREETED = """
import socket
for _ in range(30):
    with socket.create_connection(("127.0.0.1", 5670), timeout=5) as connection:
        connection.sendall(b"AMQP\\0\\0\\x09\\x01")
        assert connection.recv(100), "nobody is there"
"""


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Engines]:
    """The deployed site, with the first release and a schedule of one second."""
    # The first worker of a new cluster makes 28 queues on three hosts before its event loop turns.
    patience = {"site_watchdog_seconds": 60, "site_start_timeout_seconds": 120}
    with deployed(Engines, folder, **patience, site_broker="rabbitmq") as site:
        yield site


def longest_pause(site: Engines, since: float) -> float:
    """Return for how many seconds at most no task of the load ended."""
    rows = site.sql(f"SELECT extract(epoch FROM at) FROM probe_run WHERE at >= to_timestamp({since}) ORDER BY at")
    ends = [float(row[0]) for row in rows]
    return max(after - before for before, after in itertools.pairwise(ends))


def outlived(site: Engines, accepted: set[str], began: float) -> str:
    """Wait until each accepted task was executed, and return how that went since a loss began."""
    found = site.executed_all(accepted, 180)
    twice = sum(times > 1 for times in found.values())
    pause = longest_pause(site, began - 2)
    return f"{len(found)} tasks accepted, 0 lost, {twice} run twice, {pause:.1f} s without any"


def test_each_queue_that_lasts_is_on_all_of_them(site: Engines) -> None:
    kinds = site.types()
    assert set(kinds.values()) == {"quorum"}, kinds
    assert "celery" in kinds


# At which the members of an engine find each other, by their program.
PORTS = {5432: "postgres", 8008: "patroni", 2379: "etcd", 2380: "etcd", 25672: "beam.smp"}


@pytest.mark.parametrize("name", ENGINES)
def test_nobody_but_members_finds_an_engine(site: Engines, name: str) -> None:
    listening = site.machines[name].root.check_output("ss --no-header --listening --tcp --numeric")
    places = {line.split()[3] for line in listening.splitlines()}
    address = site.machines[name].address
    assert {place for place in places if place.endswith(":5672")} == {"127.0.0.1:5672"}
    for port in PORTS:
        own = {f"127.0.0.1:{port}"} if port == 5432 else set()  # haproxy's
        assert {place for place in places if place.endswith(f":{port}")} == own | {f"{address}:{port}"}
    ports = {4369, *PORTS}
    assert reached(site.machines[REST], address, ports) == set()
    # (That they can be found at all.)
    assert reached(site.machines[next(each for each in ENGINES if each != name)], address, ports) == ports


def reached(machine: Machine, address: str, ports: set[int]) -> set[int]:
    """Return to which ports of an address a host gets through."""
    asked = f"(timeout 3 bash -c '> /dev/tcp/{address}/'$port 2> /dev/null && echo $port) &"
    said = machine.root.check_output(f"for port in {' '.join(map(str, ports))}; do {asked} done; wait; true")
    return {int(word) for word in said.split()}


def test_a_member_is_let_in_by_the_certificate_of_its_host_alone(site: Engines) -> None:
    """And the certificate of a host without a database is none, wherever it comes from."""
    one = site.machines[ONE]
    one.feed(site.machines[REST].feed("cat /etc/site/member/member.pem"), "sh", "-c", f"umask 077; cat > {STRANGER}")
    try:
        for pair, answers in {"/etc/site/member/member.pem": True, STRANGER: False, "": False}.items():
            asked = one.root.run(f"python3 -c '{ASKED}' https://{one.address}:2380/version {pair}")
            assert asked.succeeded == answers, (pair, asked.stderr)
        assert one.root.run(f"python3 -c '{ASKED}' https://{one.address}:8008/cluster").failed
    finally:
        one.root.check_output(f"rm {STRANGER}")


@pytest.mark.parametrize("which", ["the leader of both", *ENGINES])
def test_a_lost_host_costs_nothing_accepted(
    site: Engines, folder: Path, figures: list[str], full: bool, which: str
) -> None:
    if not full and which in ENGINES:
        pytest.skip("only in a full run")
    # Right behind a change nobody is known to have all that is committed, and nobody else would lead.
    eventually(site.is_whole, 120, pause=2)
    name = which if which in ENGINES else site.primary()
    if which not in ENGINES and site.leader() != name:
        site.lead(name)
    has = [part for part, host in (("the queue", site.leader()), ("the database", site.primary())) if host == name]
    with Load(site.plan(requests=1, tasks=TASKS, probe=True), folder / f"lost-{name}.txt") as load:
        eventually(lambda: len(load.accepted()) > 30, 60)
        began = time.time()
        site.lose(name)
        at_loss = len(load.accepted())
        site.primary(site.there)
        eventually(lambda: len(load.accepted()) > at_loss + 90, 180, pause=0.5)
        load.stop()
        accepted = load.accepted()
    figures.append(f"{name} lost, which led {' and '.join(has) or 'neither'}: {outlived(site, accepted, began)}")
    site.boot(name)
    eventually(site.is_whole, 180, pause=2)


def test_a_host_without_its_cable_stops_by_itself_and_comes_back(
    site: Engines, folder: Path, figures: list[str]
) -> None:
    leads = site.primary()
    with Load(site.plan(requests=1, tasks=TASKS, probe=True), folder / "cable.txt") as load:
        eventually(lambda: len(load.accepted()) > 30, 60)
        began = time.time()
        site.unplug(TWO)
        at_loss = len(load.accepted())
        eventually(lambda: len(load.accepted()) > at_loss + 120, 180, pause=0.5)
        site.plug(TWO)
        eventually(site.is_whole, 180, pause=2)
        load.stop()
        accepted = load.accepted()
    led = ", which led the database" if leads == TWO else ""
    figures.append(f"cable of {TWO}{led} pulled: {outlived(site, accepted, began)}")


def greeted(machine: Machine) -> bool:
    """Return whether each of many connections through the port for processes reaches a broker."""
    return bool(machine.root.run(f"python3 -c '{GREETED}'").succeeded)


def test_a_member_whose_engine_has_stopped_is_asked_by_nobody(site: Engines) -> None:
    site.machines[TWO].systemctl("stop", "rabbitmq-server")
    for machine in (site.machines[REST], site.machines[TWO]):
        eventually(partial(greeted, machine), 30)
    site.machines[TWO].systemctl("start", "rabbitmq-server")
    eventually(site.is_whole, 120, pause=2)


def test_a_database_that_is_stopped_hands_over(site: Engines, figures: list[str]) -> None:
    leads = site.primary()
    unit = site.patroni(leads)
    site.machines[leads].systemctl("stop", unit)
    began = time.monotonic()
    others = [name for name in ENGINES if name != leads]
    assert site.primary(others) != leads
    site.works(60)
    figures.append(f"the database was stopped where it led: {time.monotonic() - began:.1f} s until a task ended")
    site.machines[leads].systemctl("start", unit)
    eventually(site.is_whole, 120, pause=2)


def test_one_that_is_to_lead_is_written_to_when_it_does(site: Engines, folder: Path) -> None:
    """Between the choice and that it is a copy, which refuses what is written, and a task would have failed."""
    leads = site.primary()
    with site.slowly_promoted(6), Load(site.plan(requests=1, tasks=TASKS, probe=True), folder / "promoted.txt") as load:
        eventually(lambda: len(load.accepted()) > 20, 60)
        with site.machines[leads].stopped(site.patroni(leads)):
            site.primary([name for name in ENGINES if name != leads])
        load.stop()
        accepted = load.accepted()
    site.executed_all(accepted, 60)
    eventually(site.is_whole, 120, pause=2)


def sent(site: Engines, word: str, count: int, countdown: float = 0) -> set[str]:
    """Send tasks until it is done: the probe tries once, and each of its connections may have ended with a host."""
    for _ in range(50):
        with suppress(AssertionError):
            return set(site.send("probe.quick", word, count=count, countdown=countdown or None))
        time.sleep(0.5)
    raise AssertionError("no web process could send")


def test_all_of_them_lost_at_once_come_back_with_what_waited(site: Engines, figures: list[str]) -> None:
    at_once = sent(site, "at once", 100)
    later = sent(site, "later", 50, countdown=30)
    site.lose(*ENGINES)
    site.boot(*ENGINES)
    eventually(site.is_whole, 240, pause=2)
    found = site.executed_all(at_once | later, 180)
    twice = sum(times > 1 for times in found.values())
    figures.append(f"all lost at once: {len(found)} tasks accepted before, 0 lost, {twice} run twice")


@only_in_full
def test_a_host_that_was_made_anew_is_put_back_by_one_run(site: Engines, folder: Path, figures: list[str]) -> None:
    """It has nothing, under the name and the address that it had; what the others have it copies."""
    eventually(site.is_whole, 120, pause=2)
    with Load(site.plan(requests=1, tasks=TASKS, probe=True), folder / "anew.txt") as load:
        eventually(lambda: len(load.accepted()) > 20, 60)
        site.lose(TWO)
        site.make_anew(TWO)
        began = time.monotonic()
        run = site.converge_again()
        seconds = time.monotonic() - began
        load.stop()
        accepted = load.accepted()
    assert run.status == 0, run.output
    eventually(site.is_whole, 180, pause=2)
    assert set(site.members().values()) == {len(ENGINES)}, site.members()
    found = site.executed_all(accepted, 180)
    figures.append(f"{TWO} was made anew: {seconds:.0f} s, {len(found)} tasks accepted, 0 lost")


@only_in_full
def test_a_change_goes_from_one_to_the_next_and_nobody_feels_it(
    site: Engines, folder: Path, figures: list[str]
) -> None:
    began = time.time()
    with Load(site.plan(requests=1, tasks=TASKS, probe=True), folder / "change.txt") as load:
        run = site.converge_again(**CHANGED)
        load.stop()
        accepted = load.accepted()
    assert run.status == 0, run.output
    found = site.executed_all(accepted, 180)
    pause = longest_pause(site, began)
    figures.append(f"all restarted by a run: {len(found)} tasks accepted, 0 lost, {pause:.1f} s without any")


def test_a_second_run_changes_nothing(site: Engines, full: bool) -> None:
    run = site.converge_again(**(CHANGED if full else {}))
    assert run.status == 0, run.output
    assert run.changed == 0
