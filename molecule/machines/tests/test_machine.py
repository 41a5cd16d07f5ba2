"""bin/machine: real machines, made in a folder of their own beside those of the checkout."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nspawn.images import base_image_path

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "bin/machine"
# Not under /tmp: Debian 13 mounts that nosuid.
STATE = ROOT / f".cache/test-machines-{os.getpid()}"
CHECKOUT = hashlib.sha256(bytes(STATE)).hexdigest()[:8]
ENVIRONMENT = {**os.environ, "CELERIAC_MACHINES": str(STATE)}
AS_ROOT = [] if os.geteuid() == 0 else ["sudo"]


def machine(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run bin/machine, and return how it ended."""
    return subprocess.run(
        [SCRIPT, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=ENVIRONMENT, check=False
    )


def done(*words: str | Path) -> str:
    """Run bin/machine, which must succeed, and return what it printed."""
    ended = machine(*words)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def states() -> dict[str, str]:
    """Return the state of each machine."""
    rows = map(str.split, done("list").splitlines())
    return {name: state for name, _debian, _address, state in rows}


def boot_id(name: str) -> str:
    """Return what differs from one boot to the next."""
    return done("ssh", name, "cat /proc/sys/kernel/random/boot_id")


def traces() -> list[str]:
    """Return what the computer has of the machines in our folder."""
    look = """
        cat /proc/mounts; ip -brief link; nft list ruleset
        cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'
        find /run/celeriac-machines.* /run/systemd/nspawn /sys/fs/cgroup
    """
    found = subprocess.run([*AS_ROOT, "sh", "-c", look], capture_output=True, text=True)
    lines = [line for line in found.stdout.splitlines() if CHECKOUT in line or str(STATE) in line]
    return lines + [str(path) for path in STATE.parent.glob(STATE.name)]


@pytest.fixture(scope="module", autouse=True)
def removed_at_the_end() -> Iterator[None]:
    """Remove the machines, whatever the tests did."""
    yield
    done("down", "--all")


@pytest.fixture
def nesting() -> Iterator[None]:
    """Let the first machine make machines itself, as a user's computer would: it has all rights."""
    done("down", "--all")
    folder = Path("/run/systemd/nspawn")
    settings = folder / f"{CHECKOUT}-2.nspawn"
    subprocess.run([*AS_ROOT, "mkdir", "-p", folder], check=True)
    subprocess.run(
        [*AS_ROOT, "tee", settings], input=b"[Exec]\nCapability=all\n", stdout=subprocess.DEVNULL, check=True
    )
    yield
    subprocess.run([*AS_ROOT, "rm", settings], check=True)


@pytest.fixture(scope="module")
def pair() -> tuple[str, str]:
    """Two running machines, one of each release, made at the same time by two commands."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda d: done("up", f"deb{d}", "--debian", d), ["12", "13"]))
    return "deb12", "deb13"


@pytest.mark.parametrize("release", ["12", "13"])
def test_machine_is_the_debian_that_was_asked_for(pair: tuple[str, str], release: str) -> None:
    says = done("ssh", f"deb{release}", ". /etc/os-release; echo $ID $VERSION_ID")
    assert says == f"debian {release}"


@pytest.mark.parametrize("release", ["12", "13"])
def test_systemd_has_started_without_a_failed_unit(pair: tuple[str, str], release: str) -> None:
    assert done("ssh", f"deb{release}", "systemctl is-system-running") == "running"
    assert done("ssh", f"deb{release}", "cat /proc/1/comm") == "systemd"


@pytest.mark.parametrize("release", ["12", "13"])
def test_machine_is_bare(pair: tuple[str, str], release: str) -> None:
    absent = machine("ssh", f"deb{release}", "dpkg -s python3-venv python3-apt curl gnupg nginx")
    assert "install ok installed" not in absent.stdout


def test_admin_may_become_root(pair: tuple[str, str]) -> None:
    assert done("ssh", pair[0], "id -un; sudo id -un").split() == ["admin", "root"]


def test_root_may_log_in_with_the_same_key(pair: tuple[str, str]) -> None:
    assert done("ssh", "--user", "root", pair[0], "id -un") == "root"


def test_exit_status_of_a_command_is_passed_on(pair: tuple[str, str]) -> None:
    assert machine("ssh", pair[0], "exit 7").returncode == 7


@pytest.mark.parametrize("release", ["12", "13"])
def test_packages_of_main_updates_and_security_can_be_had(pair: tuple[str, str], release: str) -> None:
    done("ssh", f"deb{release}", "sudo apt-get update")
    policy = done("ssh", f"deb{release}", "apt-cache policy")
    codename = {"12": "bookworm", "13": "trixie"}[release]
    archives = {f"n={codename}{suffix}" for suffix in ("", "-updates", "-security")}
    assert archives <= set(policy.replace(",", "\n").split())


def test_machine_knows_its_own_name(pair: tuple[str, str]) -> None:
    assert done("ssh", pair[1], "hostname; getent hosts $(hostname)").split()[::2] == [pair[1]] * 2


def test_machine_trusts_whom_the_computer_trusts(pair: tuple[str, str]) -> None:
    added = list(Path("/usr/local/share/ca-certificates").glob("*.crt"))
    bundle = done("ssh", pair[1], "cat /etc/ssl/certs/ca-certificates.crt")
    assert all(certificate.read_text().strip() in bundle for certificate in added)


def test_machines_share_no_identity(pair: tuple[str, str]) -> None:
    look = "cat /etc/machine-id /etc/ssh/ssh_host_*.pub | cut -d' ' -f1-2"
    one, two = (set(done("ssh", name, look).splitlines()) for name in pair)
    assert not one & two
    assert len(one) == len(two) == 2


def test_inventory_is_enough_for_ssh(pair: tuple[str, str]) -> None:
    host = json.loads(done("inventory", pair[0]))
    options = shlex.split(host["ansible_ssh_common_args"])
    account = f"{host['ansible_user']}@{host['ansible_host']}"
    command = ["ssh", "-i", host["ansible_ssh_private_key_file"], *options, account, "hostname"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == pair[0]


def test_another_machine_at_the_same_address_is_refused(pair: tuple[str, str], tmp_path: Path) -> None:
    host = json.loads(done("inventory", pair[0]))
    known = [STATE / "hosts" / name / "known_hosts" for name in pair]
    forged = tmp_path / "known_hosts"
    forged.write_text(f"{host['ansible_host']} {known[1].read_text().split(' ', 1)[1]}")
    options = shlex.split(host["ansible_ssh_common_args"].replace(str(known[0]), str(forged)))
    command = ["ssh", "-i", host["ansible_ssh_private_key_file"], *options]
    ended = subprocess.run([*command, f"admin@{host['ansible_host']}", "true"], capture_output=True, text=True)
    assert "Host key verification failed" in ended.stderr


def test_up_leaves_a_running_machine_alone(pair: tuple[str, str]) -> None:
    before = boot_id(pair[1])
    done("up", pair[1])
    assert boot_id(pair[1]) == before


def test_up_refuses_another_release_for_a_machine_that_exists(pair: tuple[str, str]) -> None:
    ended = machine("up", pair[0], "--debian", "13")
    assert ended.returncode == 1
    assert "exists, with Debian 12" in ended.stderr


@pytest.mark.parametrize("release", ["12", "13"])
def test_reboot_is_over_when_the_next_boot_answers(pair: tuple[str, str], release: str) -> None:
    before, address = boot_id(f"deb{release}"), done("address", f"deb{release}")
    done("reboot", f"deb{release}")
    assert boot_id(f"deb{release}") != before
    assert done("address", f"deb{release}") == address


def test_killed_machine_keeps_its_disk_and_boots_again(pair: tuple[str, str]) -> None:
    done("ssh", pair[1], "echo kept > kept; sync")
    before = boot_id(pair[1])
    done("kill", pair[1])
    assert states()[pair[1]] == "stopped"
    done("up", pair[1])
    assert done("ssh", pair[1], "cat kept") == "kept"
    assert boot_id(pair[1]) != before


def test_machine_without_its_disk_is_another_one_at_its_address(pair: tuple[str, str]) -> None:
    address = done("address", pair[1])
    done("ssh", pair[1], "echo gone > gone; sync")
    done("wipe", pair[1])
    assert states()[pair[1]] == "stopped"
    done("up", pair[1])
    assert done("ssh", pair[1], "ls") == ""
    assert done("address", pair[1]) == address


def test_machines_reach_each_other(pair: tuple[str, str]) -> None:
    connect = "import socket, sys; socket.create_connection((sys.argv[1], 22), timeout=1)"
    done("ssh", pair[0], "python3", "-c", shlex.quote(connect), done("address", pair[1]))


def test_unplugged_machine_is_away_and_comes_back(pair: tuple[str, str]) -> None:
    connect = "import socket, sys; socket.create_connection((sys.argv[1], 22), timeout=1)"
    words = ("ssh", pair[0], "python3", "-c", shlex.quote(connect), done("address", pair[1]))
    done("unplug", pair[1])
    assert machine(*words).returncode != 0
    done("plug", pair[1])
    assert machine(*words).returncode == 0


def test_computer_gets_no_address_by_itself_for_a_machine(pair: tuple[str, str]) -> None:
    """A browser that is at work here would take it for another network."""
    done("address", pair[0])
    links = json.loads(subprocess.run(["ip", "-json", "-6", "address"], capture_output=True, check=True).stdout)
    ours = [link["ifname"] for link in links if f"-{CHECKOUT}" in link.get("ifname", "")]
    assert not ours


def test_snapshot_makes_machines_with_its_files_and_another_identity() -> None:
    done("up", "first")
    done("ssh", "first", "echo saved > saved")
    done("save", "first", "ready")
    assert states()["first"] == "stopped"
    done("up", "second", "--from", "ready")
    done("up", "first")
    assert done("ssh", "second", "cat saved; hostname").split() == ["saved", "second"]
    ids = {done("ssh", name, "cat /etc/machine-id") for name in ("first", "second")}
    assert len(ids) == 2
    done("down", "first", "second")


def test_up_that_was_killed_is_mended_by_up() -> None:
    killed = ["timeout", "--foreground", "--signal=KILL", "0.7"]
    command = ["env", f"CELERIAC_MACHINES={STATE}", str(SCRIPT), "up", "torn"]
    assert subprocess.run([*AS_ROOT, *killed, *command]).returncode == 137
    done("up", "torn")
    assert done("ssh", "torn", "systemctl is-system-running") == "running"


def test_root_without_the_right_to_make_namespaces_gets_one_sentence() -> None:
    bounded = [*AS_ROOT, "setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    command = [*bounded, "env", f"CELERIAC_MACHINES={STATE}-refused", str(SCRIPT), "up", "a"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("machine: This computer lets not even root make namespaces")
    assert not Path(f"{STATE}-refused").exists()


def test_removed_machine_leaves_nothing(pair: tuple[str, str]) -> None:
    assert any("cel-" in line for line in traces())
    done("down", "--all")
    assert traces() == []
    done("down", "--all")  # again: nothing to do is no failure


# What a computer has, line by line; of a list of processes, the names. Not piped: a shell that has just begun the next
# part of a pipe is a "bash" for some of the looks, and a "grep" for the others.
LOOK = """
    mount; ip -brief link | sed 's/@.*//'; sudo nft list ruleset; cat /proc/sys/net/ipv4/ip_forward
    ps -e -o comm= 2>/dev/null; find /sys/fs/cgroup -type d -path '*machine*'
    sudo find /run -path '*nspawn*' -o -name '*celeriac*'
"""
TWO_CHECKOUTS = f"""
    look() {{ {{ {LOOK} }} > seen; grep -v -E 'kworker|run-.*(scope|service)' seen | sort > "$1"; }}
    one() {{ CELERIAC_MACHINES=$HOME/one bin/machine "$@"; }}
    two() {{ CELERIAC_MACHINES=$HOME/two bin/machine "$@"; }}
    exec < /dev/null 2>&1
    set -e
    ! two up b --from none  # installs the tools, and makes nothing
    echo 0 | sudo tee /proc/sys/net/ipv4/ip_forward
    look empty
    two up b;   look second
    one up a;   one ssh a hostname;   one down a;   look without_first
    two ssh b sudo timeout 30 apt-get update
    two down --all;   look without_both
    diff second without_first
    diff empty without_both
    echo nothing left
"""


def test_a_fresh_computer_is_as_before_when_the_last_machine_of_two_checkouts_has_gone(nesting: None) -> None:
    """The computer is itself a machine: with systemd, without our tools, and not as root."""
    done("up", "computer")
    home = STATE / "hosts/computer/root/home/admin"
    cache = STATE / "hosts/computer/root/var/cache/celeriac"
    subprocess.run([*AS_ROOT, "mkdir", "--mode=700", cache], check=True)
    subprocess.run([*AS_ROOT, "cp", "--archive", base_image_path("13"), cache], check=True)
    subprocess.run([*AS_ROOT, "cp", "--archive", SCRIPT.parent, ROOT / "nspawn", home], check=True)
    says = machine("ssh", "computer", TWO_CHECKOUTS)
    assert says.stdout.splitlines()[-1] == "nothing left", says.stdout


def test_nothing_is_left_of_a_computer_with_machines_inside() -> None:
    done("down", "--all")
    assert traces() == []
