"""bin/machine: what it decides before it touches the computer."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from nspawn.checkout import Checkout
from nspawn.command_line import command_line
from nspawn.computer import become_root
from nspawn.errors import MachineError
from nspawn.machine import Machine, allocate, machines
from nspawn.network import free_subnet
from nspawn.ssh import ssh_command

SCRIPT = Path(__file__).resolve().parents[3] / "bin/machine"


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Return a checkout that has no machines yet."""
    return Checkout(tmp_path / "machines")


def test_subnet_overlaps_nothing_that_the_computer_routes() -> None:
    first = free_subnet(7, [])
    wide_route = first.supernet(new_prefix=14)
    assert not free_subnet(7, [wide_route]).overlaps(wide_route)


@pytest.mark.parametrize("full", [["172.16.0.0/12"], ["172.16.0.0/12", "10.0.0.0/8"]])
def test_subnet_is_private_also_when_the_preferred_blocks_are_taken(full: list[str]) -> None:
    subnet = free_subnet(7, [IPv4Network(block) for block in full])
    assert subnet.is_private


def test_refuses_when_no_private_subnet_is_free() -> None:
    blocks = ["172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16"]
    with pytest.raises(MachineError):
        free_subnet(7, [IPv4Network(block) for block in blocks])


def test_checkouts_differ_in_bridge_and_subnet(tmp_path: Path) -> None:
    one, two = (Checkout(tmp_path / name) for name in ("one", "two"))
    subnets = [free_subnet(int(checkout.id, 16), []) for checkout in (one, two)]
    assert one.bridge != two.bridge
    assert subnets[0] != subnets[1]


def test_interface_names_fit_into_the_kernels_15_characters(checkout: Checkout) -> None:
    machine = Machine(checkout, "a-very-long-name-of-a-machine", "13", 254)
    assert max(len(machine.veth), len(checkout.bridge)) <= 15


def test_machines_of_a_checkout_have_different_numbers(checkout: Checkout) -> None:
    numbers = [allocate(checkout, name, "13").number for name in ("a", "b", "c")]
    assert len(set(numbers)) == 3
    assert set(machines(checkout)) == {"a", "b", "c"}


def test_number_of_a_removed_machine_is_used_again(checkout: Checkout) -> None:
    first = allocate(checkout, "a", "13")
    allocate(checkout, "b", "13")
    (first.folder / "machine.json").unlink()
    assert allocate(checkout, "c", "13").number == first.number


def test_only_the_owner_reads_the_key_and_reaches_the_disks(checkout: Checkout) -> None:
    allocate(checkout, "a", "13")
    modes = [path.stat().st_mode & 0o077 for path in (checkout.key, checkout.folder)]
    assert modes == [0, 0]


def test_known_hosts_survives_a_path_with_spaces(tmp_path: Path) -> None:
    machine = Machine(Checkout(tmp_path / "two words"), "a", "13", 2, address="192.0.2.1")
    command = [*ssh_command(machine), "-G"]
    settings = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    files = next(line for line in settings.splitlines() if line.startswith("userknownhostsfile "))
    assert files.split(" ", 1)[1].strip('"') == str(machine.known_hosts)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a/b", "a b", "9", "ä", "a" * 33])
def test_refuses_a_name_that_cannot_be_a_host_name(name: str) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line().parse_args(["up", "--", name])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["up"],
        ["up", "a", "--debian", "11"],
        ["down"],
        ["down", "a", "--all"],
        ["up", "a", "--from", "No Snapshot"],
        ["save", "a"],
        ["ssh"],
        ["ssh", "--user", "nobody", "a"],
        ["unknown"],
        [],
    ],
)
def test_refuses_an_incomplete_or_contradictory_command(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line().parse_args(words)
    assert ended.value.code == 2


def test_words_for_the_machine_are_not_taken_for_options() -> None:
    args = command_line().parse_args(["ssh", "a", "ls", "--all", "-l", "--user", "x"])
    assert (args.user, args.words) == ("admin", ["ls", "--all", "-l", "--user", "x"])


def test_unknown_machine_is_one_sentence_that_names_the_known_ones(checkout: Checkout) -> None:
    allocate(checkout, "web", "13")
    environment = {**os.environ, "CELERIAC_MACHINES": str(checkout.folder)}
    done = subprocess.run([SCRIPT, "address", "wbe"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "machine: There is no machine wbe; there are: web.\n"


def test_without_root_and_sudo_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="run this as root"):
        become_root()


@pytest.mark.parametrize("folder", ["/", "/tmp"])
def test_command_works_from_any_folder_with_nothing_but_the_computers_python(checkout: Checkout, folder: str) -> None:
    """Neither the virtual environment nor what the person set for it counts."""
    machine = allocate(checkout, "web", "13")
    replace(machine, address="192.0.2.7").save()
    environment = {"PATH": "/usr/bin:/bin", "CELERIAC_MACHINES": str(checkout.folder)}
    words = ["/usr/bin/python3", "-I", "-S", str(SCRIPT), "address", "web"]
    assert subprocess.check_output(words, cwd=folder, env=environment, text=True) == "192.0.2.7\n"


def test_machine_of_an_older_checkout_is_still_read(checkout: Checkout) -> None:
    """Whoever pulls while the demo runs can still take it away."""
    folder = checkout.host("demo")
    folder.mkdir(parents=True)
    about = {"name": "demo", "debian": "13", "number": 2, "nested": False, "address": "192.0.2.2"}
    (folder / "machine.json").write_text(json.dumps(about))
    assert machines(checkout) == {"demo": Machine(checkout, "demo", "13", 2, "192.0.2.2")}
