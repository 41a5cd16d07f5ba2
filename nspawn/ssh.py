"""Log in to machines, and wait until that is possible."""

from __future__ import annotations

import subprocess
import time

from nspawn.errors import MachineError
from nspawn.images import USER
from nspawn.machine import Machine
from nspawn.power import START_SECONDS, processes_of


def ssh_options(machine: Machine) -> list[str]:
    """Return the options with which ssh accepts this machine's host key and no other."""
    known_hosts = f'UserKnownHostsFile="{machine.known_hosts}"'
    return ["-o", "IdentitiesOnly=yes", "-o", known_hosts, "-o", "StrictHostKeyChecking=yes"]


def ssh_command(machine: Machine, user: str = USER) -> list[str]:
    """Return the beginning of an ssh command line; options and words may follow."""
    return ["ssh", "-i", str(machine.checkout.key), *ssh_options(machine), f"{user}@{machine.address}"]


def wait_for_ssh(machine: Machine, old_boot: str = "") -> str:
    """Wait until the machine has started and answers over SSH.

    Args:
        machine: the machine.
        old_boot: the id of a boot that does not count.

    Returns:
        The id of this new boot.

    Raises:
        MachineError: it does not answer; with the end of its console.
    """
    ask = "cat /proc/sys/kernel/random/boot_id && systemctl is-system-running --wait"
    command = [*ssh_command(machine), "-o", "ConnectTimeout=1", "-o", "BatchMode=yes", ask]
    seen = time.monotonic()
    deadline = seen + START_SECONDS
    while time.monotonic() < deadline and time.monotonic() < seen + 3:
        answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        boot_id, _, state = answer.stdout.strip().partition("\n")
        if boot_id != old_boot and state in ("running", "degraded"):
            return boot_id
        if processes_of(machine):  # between two boots nothing runs, for a moment
            seen = time.monotonic()
        time.sleep(0.05)
    console = machine.console.read_bytes().decode(errors="replace").replace("\r", "")
    end = "\n".join(console.splitlines()[-30:])
    raise MachineError(f"{machine.name} does not answer. The end of its console:\n{end}")
