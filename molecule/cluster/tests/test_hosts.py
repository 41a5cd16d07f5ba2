"""Three hosts are one site: what is lost with one of them, who may speak to them, and a release that is bad on one.

The tests are in the order in which this happens to the machines; each leaves a site that is whole.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from stack.load import Load, failures
from stack.machine import Machine
from stack.playbook import Run
from stack.several import DATA, ONE, TWO, Several
from stack.upgrading import only_in_full

from testkit.waiting import eventually

UNITS = ("haproxy", "gunicorn", "celery-worker", "celery-beat")
# What people, and Ansible, come in by.
OPEN = {22, 80, 443}
MEMBERS = 8443
# Of a load, a second.
RATES = {"requests": 3.0, "tasks": 2.0}


def listening(machine: Machine) -> set[int]:
    """Return the ports on which something of a host listens that others could reach."""
    found = machine.root.check_output("ss --no-header --listening --tcp --numeric")
    places = [line.split()[3].rpartition(":") for line in found.splitlines()]
    return {int(port) for address, _, port in places if not address.strip("[]").startswith(("127.", "::1"))}


def answers(address: str, port: int) -> bool:
    """Say whether a port lets this computer in, which is no host of the site."""
    with suppress(OSError), socket.create_connection((address, port), timeout=3):
        return True
    return False


def test_a_stranger_reaches_what_people_do_and_nothing_else(site: Several) -> None:
    for name, machine in site.machines.items():
        ports = listening(machine)
        assert {port for port in ports if answers(machine.address, port)} <= OPEN, name
        assert {6379, 5432}.isdisjoint(ports), name
        assert MEMBERS in ports, name


def hears(address: str, context: ssl.SSLContext) -> bytes:
    """Return what Redis says to one who knows its name, behind the firewall; nothing where there is no way to it."""
    try:
        with (
            socket.create_connection((address, MEMBERS), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="redis") as secure,
        ):
            secure.sendall(b"PING\r\n")
            return secure.recv(100)
    except (ssl.SSLError, ConnectionError):
        return b""


@pytest.fixture
def without_firewall(site: Several) -> Iterator[Machine]:
    """The host with the engines, which lets everybody come near."""
    machine = site.machines[DATA]
    machine.systemctl("stop", "celeriac-firewall")
    yield machine
    machine.systemctl("start", "celeriac-firewall")


def test_who_has_no_certificate_of_the_site_is_not_heard(
    site: Several, without_firewall: Machine, tmp_path: Path
) -> None:
    of_member = tmp_path / "member.pem"
    of_member.write_text(site.machines[ONE].feed("", "cat", "/etc/site/member/member.pem"))
    of_stranger = tmp_path / "stranger.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-subj", "/CN=redis", "-days", "2"]
    subprocess.run([*words, "-keyout", tmp_path / "key", "-out", tmp_path / "own"], check=True, capture_output=True)
    of_stranger.write_text((tmp_path / "key").read_text() + (tmp_path / "own").read_text())

    def heard(certificate: Path | None) -> bytes:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if certificate:
            context.load_cert_chain(certificate)
        return hears(without_firewall.address, context)

    # (A member without the password of Redis comes no further either.)
    assert b"NOAUTH" in heard(of_member)
    assert heard(of_stranger) == b""
    assert heard(None) == b""


@pytest.mark.parametrize("whose", ["the beat that sends", "the beat that stands by"])
def test_a_lost_host_costs_no_task_and_no_page_of_another(
    site: Several, folder: Path, figures: list[str], full: bool, whose: str
) -> None:
    if not full and whose != "the beat that sends":
        pytest.skip("only in a full run")
    sends = site.sender()
    lost = sends if whose == "the beat that sends" else {ONE: TWO, TWO: ONE}[sends]
    left = {ONE: TWO, TWO: ONE}[lost]
    here = site.at(left)
    ticked = len(site.runs("tick"))

    with Load(here.plan(**RATES, probe=True), folder / f"lost-{lost}.txt") as load:
        eventually(lambda: len(load.accepted()) > 20, 60)
        site.lose(lost)
        at_loss = len(load.accepted())
        eventually(lambda: len(load.accepted()) > at_loss + 40, 120, pause=0.5)
        load.stop()
        assert failures(load.answers()) == []
        found = site.executed_all(load.accepted(), 120)
    eventually(lambda: len(site.runs("tick")) > ticked + 10, 60, pause=1)
    twice = sum(times > 1 for times in found.values())
    figures.append(f"{whose} lost with its host: {len(found)} tasks accepted, 0 lost, {twice} run twice")

    site.boot(lost)
    run = site.converge_again()
    assert run.status == 0, run.output
    assert site.well() == {ONE, TWO}


def test_the_host_of_the_engines_comes_back_to_all_that_it_had(site: Several, figures: list[str]) -> None:
    tasks = set(site.send("probe.quick", "before", count=20)) | set(
        site.send("probe.quick", "later", countdown=20, count=20)
    )

    site.lose(DATA)
    site.boot(DATA)

    found = site.executed_all(tasks, 120)
    eventually(lambda: site.well() == {ONE, TWO}, 60, pause=1)
    figures.append(f"the host of the engines lost: {len(found)} tasks, 0 lost")


def bad_on(host: str, step: str) -> str:
    """Return a choice by which a release fails on one host alone."""
    return json.dumps({"site_release_fault": f"{{{{ '{step}' if inventory_hostname == '{host}' else '' }}}}"})


@pytest.mark.parametrize("fault", [pytest.param("health", marks=only_in_full), "switch:kill"])
def test_a_release_that_is_bad_on_one_host_serves_on_none(site: Several, folder: Path, fault: str) -> None:
    """It is taken back where it had passed, also when it can undo nothing where it had not."""
    before = site.current()
    new = site.make()
    with Load(site.plan(**RATES, probe=True), folder / f"bad-{fault}.txt") as load:
        run = site.deploy(new, "--extra-vars", bad_on(TWO, fault))
        load.stop()
        assert failures(load.answers()) == []
        site.executed_all(load.accepted(), 120)

    assert run.status != 0
    assert site.releases() == {ONE: before, TWO: before}
    assert site.well() == {ONE, TWO}
    assert f"It has not passed on {TWO}." in run.output
    assert f"Undone on: {ONE}; not begun: {DATA}." in run.output
    for host in (ONE, TWO):
        assert "active" not in {state for unit, state in site.at(host).units().items() if new.name in unit}


@only_in_full
def test_a_release_that_is_bad_on_the_first_host_is_begun_on_no_other(site: Several) -> None:
    before = site.current()
    new = site.make()

    run = site.deploy(new, "--extra-vars", bad_on(ONE, "readiness"))

    assert run.status != 0
    assert site.releases() == {ONE: before, TWO: before}
    assert f"Undone on: none; not begun: {TWO}, {DATA}." in run.output
    assert f"Not begun: {ONE} comes before {TWO}" in run.output


def test_a_deploy_is_felt_by_nobody_on_either_host(site: Several, folder: Path) -> None:
    new = site.make()
    with (
        Load(site.at(ONE).plan(**RATES, probe=True), folder / "one.txt") as one,
        Load(site.at(TWO).plan(**RATES, probe=True), folder / "two.txt") as two,
    ):
        run = site.deploy(new)
        one.stop()
        two.stop()
        assert run.status == 0, run.output
        assert failures([*one.answers(), *two.answers()]) == []
        site.executed_all(one.accepted() | two.accepted(), 120)
    assert site.releases() == {ONE: new.name, TWO: new.name}


@only_in_full
def test_what_a_killed_run_has_begun_is_ended_by_the_next(site: Several, folder: Path) -> None:
    before = site.current()
    new = site.make()
    with Load(site.plan(**RATES, probe=True), folder / "killed.txt") as load:
        play = site.start_deploy(new, "--extra-vars", bad_on(TWO, "readiness:stop"))
        second = site.at(TWO)
        process = eventually(lambda: second.stopped_deploy(new.name) or not play.running(), 240)
        play.kill()
        assert process is not True, play.output
        second.machine.root.run(f"kill -CONT {process}")
        eventually(lambda: not second.machine.root.run(f"test -e /proc/{process}").succeeded, 120)
        # What serves by now does so until somebody says more, and nothing of it is written down.
        assert site.well() == {ONE, TWO}
        assert site.releases() == {ONE: before, TWO: before}

        run = site.deploy(new)
        load.stop()
        assert run.status == 0, run.output
        assert failures(load.answers()) == []
        site.executed_all(load.accepted(), 120)
    assert site.releases() == {ONE: new.name, TWO: new.name}


@only_in_full
def test_all_hosts_go_back_together(site: Several, folder: Path) -> None:
    there = site.current()
    with Load(site.plan(**RATES, probe=True), folder / "back.txt") as load:
        run = site.start("playbooks/rollback.yml").wait()
        load.stop()
        assert run.status == 0, run.output
        assert failures(load.answers()) == []
        site.executed_all(load.accepted(), 120)
    went = site.releases()
    assert there not in went.values()
    assert went[ONE] == went[TWO]


def changed(run: Run) -> int:
    """Return how many tasks of a run that went well changed something."""
    assert run.status == 0, run.output
    return run.changed


def test_a_second_run_changes_nothing(site: Several) -> None:
    assert changed(site.converge_again()) == 0
    assert site.well() == {ONE, TWO}


def test_a_host_that_goes_is_felt_by_nobody(site: Several, folder: Path) -> None:
    with Load(site.at(ONE).plan(**RATES, probe=True), folder / "goes.txt") as load:
        run = site.start("playbooks/remove.yml", "--limit", TWO, "--extra-vars", "remove=default").wait()
        load.stop()
        assert run.status == 0, run.output
        assert failures(load.answers()) == []
        site.executed_all(load.accepted(), 120)
    assert site.at(ONE).web.get("/health/").status == 200
    assert {80, 443, MEMBERS}.isdisjoint(listening(site.machines[TWO]))


def test_a_site_that_goes_leaves_no_way_between_its_hosts(site: Several) -> None:
    run = site.start("playbooks/remove.yml", "--extra-vars", "remove=default").wait()

    assert run.status == 0, run.output
    for machine in site.machines.values():
        assert machine.state("haproxy") == "inactive"
        assert not machine.root.file("/etc/haproxy/celeriac").exists
        assert listening(machine) <= {22}
