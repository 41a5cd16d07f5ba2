"""A firewall lets in what is named and leaves all else as it was; one that cuts Ansible off is taken back by the host.

The tests are in the order in which this happens to a host. It ends without a firewall, as it began.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack.lab import Site
from stack.playbook import Run

from testkit.waiting import eventually

UNITS = ("celeriac-firewall",)
CLOSED, OPEN = 8090, 8091
NOBODY_ELSE = """
table inet celeriac {
  chain input {
    type filter hook input priority filter; policy drop;
    iif lo accept
  }
}
"""
CUT_OFF = [
    {
        "hosts": "all",
        "become": True,
        "gather_facts": False,
        "tasks": [{"celeriac.site.firewall": {"ruleset": NOBODY_ELSE, "confirm_seconds": 5}, "name": "Nobody gets in"}],
    }
]
# As a container engine has them.
OF_AN_ENGINE = """
table ip engine {
  chain forward {
    type filter hook forward priority filter; policy accept;
    ip daddr 10.88.0.0/16 tcp dport 8080 accept
  }
}
"""


def reached(site: Site, port: int) -> bool:
    """Say whether a new connection gets in at a port."""
    try:
        socket.create_connection((site.machine.address, port), timeout=2).close()
    except OSError:
        return False
    return True


def turn(site: Site, **choices: object) -> Run:
    """Run what brings the firewall."""
    return site.start("playbooks/edge.yml", "--tags", "firewall", "--extra-vars", json.dumps(choices)).wait()


def on(site: Site) -> Run:
    """Run it with a firewall."""
    return turn(site, firewall_enabled=True, firewall_open_ports=[{"port": OPEN}])


def state(site: Site) -> str:
    """Return what is loaded, and what the next boot would load."""
    return site.machine.feed("nft list table inet celeriac; cat /etc/celeriac/firewall.nft")


@pytest.fixture(scope="module", autouse=True)
def listeners(site: Site) -> Iterator[None]:
    """Two programs of somebody's that everybody can reach."""
    for port in (CLOSED, OPEN):
        serve = f"python3 -m http.server --directory=/run {port}"
        site.machine.root.check_output(f"systemd-run --quiet --collect --unit=listener-{port} {serve}")
    eventually(lambda: reached(site, CLOSED) and reached(site, OPEN), 30)
    yield
    site.machine.systemctl("stop", *(f"listener-{port}" for port in (CLOSED, OPEN)))


@pytest.fixture
def caller(site: Site) -> Iterator[socket.socket]:
    """A connection of the host to this computer, which says back what it is told."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        server.settimeout(30)
        here = site.machine.root.check_output("ip route show default").split()[2]
        words = f"exec 3<>/dev/tcp/{here}/{server.getsockname()[1]}; cat <&3 >&3"
        site.machine.root.check_output("systemd-run --quiet --collect --unit=caller bash -c %s", words)
        connection, _ = server.accept()
        with connection:
            connection.settimeout(30)
            yield connection


def test_what_is_named_is_let_in_and_nobody_loses_a_connection(site: Site, caller: socket.socket) -> None:
    assert reached(site, CLOSED)

    run = on(site)

    assert run.status == 0, run.output
    assert {port: reached(site, port) for port in (CLOSED, OPEN, 22, 80, 443)} == {
        CLOSED: False,
        **dict.fromkeys((OPEN, 22, 80, 443), True),
    }
    # It has waited for a word since before there were rules.
    caller.sendall(b"word")
    assert caller.recv(4) == b"word"


def test_a_second_run_changes_nothing(site: Site) -> None:
    run = on(site)

    assert run.status == 0, run.output
    assert run.changed == 0, run.output


def test_a_boot_loads_it_before_there_is_a_network_and_its_unit_is_sandboxed(site: Site) -> None:
    assert site.machine.root.check_output("systemctl is-enabled %s", UNITS[0]) == "enabled"
    assert "network-pre.target" in site.machine.show(UNITS[0], "Before").split()
    report = site.machine.root.check_output("systemd-analyze security --no-pager %s", UNITS[0])
    assert float(report.rpartition("Overall exposure level for")[2].split()[1]) <= 1.5, report


def test_rules_of_others_stay_and_without_the_unit_all_is_open(site: Site) -> None:
    site.machine.feed(OF_AN_ENGINE, "nft", "--file", "-")
    theirs = site.machine.root.check_output("nft list table ip engine")
    try:
        for verb, lets_in in (("restart", False), ("reload", False), ("stop", True), ("start", False)):
            site.machine.systemctl(verb, UNITS[0])
            assert site.machine.root.check_output("nft list table ip engine") == theirs, verb
            assert reached(site, CLOSED) is lets_in, verb
    finally:
        site.machine.root.check_output("nft delete table ip engine")


@pytest.mark.parametrize("is_killed", [False, True], ids=["to_its_end", "killed"])
def test_one_that_cuts_ansible_off_is_taken_back_by_the_host(site: Site, tmp_path: Path, is_killed: bool) -> None:
    before = state(site)
    playbook = tmp_path / "cut_off.yml"
    playbook.write_text(json.dumps(CUT_OFF))

    play = site.start(str(playbook))
    if is_killed:
        eventually(lambda: not reached(site, OPEN), 60)
        play.kill()
    else:
        run = play.wait()
        assert run.status != 0
        assert "The firewall is as it was before: no new connection of Ansible was let in" in " ".join(
            run.output.split()
        )

    # (At port 22 sshd would take who only knocks for somebody to keep out.)
    eventually(lambda: reached(site, OPEN), 60)
    assert state(site) == before
    assert not reached(site, CLOSED)


def test_turned_off_nothing_of_it_stays(site: Site) -> None:
    run = turn(site)

    assert run.status == 0, run.output
    assert reached(site, CLOSED)
    there = "nft list tables; ls /etc/celeriac/*.nft /run/celeriac* /etc/systemd/system/*firewall*"
    assert "celeriac" not in site.machine.root.run(there).stdout
