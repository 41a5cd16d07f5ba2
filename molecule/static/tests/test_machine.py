"""bin/machine: what it decides before it touches the computer."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from ipaddress import IPv4Network
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "bin/machine"


def load(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return bin/machine as a module that keeps its machines in this folder."""
    monkeypatch.setenv("CELERIAC_MACHINES", str(checkout))
    loader = SourceFileLoader("machine_script", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, loader.name, module)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    return module


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return bin/machine with a folder of its own for machines."""
    return load(tmp_path / "machines", monkeypatch)


def test_subnet_overlaps_nothing_that_the_computer_routes(script: ModuleType) -> None:
    first = script.free_subnet(7, [])
    wide_route = first.supernet(new_prefix=14)
    assert not script.free_subnet(7, [wide_route]).overlaps(wide_route)


@pytest.mark.parametrize("full", [["172.16.0.0/12"], ["172.16.0.0/12", "10.0.0.0/8"]])
def test_subnet_is_private_also_when_the_preferred_blocks_are_taken(script: ModuleType, full: list[str]) -> None:
    subnet = script.free_subnet(7, [IPv4Network(block) for block in full])
    assert subnet.is_private


def test_refuses_when_no_private_subnet_is_free(script: ModuleType) -> None:
    blocks = ["172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16"]
    with pytest.raises(script.Refusal):
        script.free_subnet(7, [IPv4Network(block) for block in blocks])


def test_checkouts_differ_in_bridge_and_subnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (load(tmp_path / name, monkeypatch) for name in ("one", "two"))
    subnets = [module.free_subnet(int(module.CHECKOUT, 16), []) for module in (one, two)]
    assert one.BRIDGE != two.BRIDGE
    assert subnets[0] != subnets[1]


def test_interface_names_fit_into_the_kernels_15_characters(script: ModuleType) -> None:
    machine = script.Machine("a-very-long-name-of-a-machine", "13", 254)
    assert max(len(machine.veth), len(script.BRIDGE)) <= 15


def test_machines_of_a_checkout_have_different_numbers(script: ModuleType) -> None:
    numbers = [script.allocate(name, "13", False).number for name in ("a", "b", "c")]
    assert len(set(numbers)) == 3
    assert set(script.machines()) == {"a", "b", "c"}


def test_number_of_a_removed_machine_is_used_again(script: ModuleType) -> None:
    first = script.allocate("a", "13", False)
    script.allocate("b", "13", False)
    (first.folder / "machine.json").unlink()
    assert script.allocate("c", "13", False).number == first.number


def test_only_the_owner_reads_the_key_and_reaches_the_disks(script: ModuleType) -> None:
    script.allocate("a", "13", False)
    modes = [path.stat().st_mode & 0o077 for path in (script.KEY, script.STATE)]
    assert modes == [0, 0]


def test_known_hosts_survives_a_path_with_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(tmp_path / "two words", monkeypatch)
    machine = module.Machine("a", "13", 2, address="192.0.2.1")
    command = [*module.ssh_command(machine), "-G"]
    settings = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    files = next(line for line in settings.splitlines() if line.startswith("userknownhostsfile "))
    assert files.split(" ", 1)[1].strip('"') == str(machine.known_hosts)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a/b", "a b", "9", "ä", "a" * 33])
def test_refuses_a_name_that_cannot_be_a_host_name(script: ModuleType, name: str) -> None:
    with pytest.raises(SystemExit) as ended:
        script.command_line().parse_args(["up", "--", name])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["up"],
        ["up", "a", "--debian", "11"],
        ["down"],
        ["down", "a", "--all"],
        ["link", "a", "sideways"],
        ["base"],
        ["ssh"],
        ["ssh", "--user", "nobody", "a"],
        ["unknown"],
        [],
    ],
)
def test_refuses_an_incomplete_or_contradictory_command(script: ModuleType, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        script.command_line().parse_args(words)
    assert ended.value.code == 2


def test_words_for_the_machine_are_not_taken_for_options(script: ModuleType) -> None:
    args = script.command_line().parse_args(["ssh", "a", "ls", "--all", "-l", "--user", "x"])
    assert (args.user, args.words) == ("admin", ["ls", "--all", "-l", "--user", "x"])


def test_unknown_machine_is_one_sentence_that_names_the_known_ones(script: ModuleType) -> None:
    script.allocate("web", "13", False)
    done = subprocess.run([SCRIPT, "address", "wbe"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "machine: There is no machine wbe; there are: web.\n"


def test_without_root_and_sudo_it_says_so(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(script.Refusal, match="run this as root"):
        script.become_root()
