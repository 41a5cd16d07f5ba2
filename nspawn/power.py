"""Start and stop machines; the process list says which of them run."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

from nspawn.cgroups import cgroup, clear_cgroups
from nspawn.checkout import Checkout
from nspawn.computer import systemd_runs_here
from nspawn.machine import Machine
from nspawn.shell import run, try_to_run, wait_until

START_SECONDS = 90  # for a start, or an end in good order

# Starts nspawn again when the guest has rebooted, which its exit status 133 says. Each machine has
# a control group of its own, new at each boot: in a shared one they would stop each other's units.
# While it starts, its network interface on this computer is kept from taking an address (`withhold_addresses`).
BOOT_LOOP = """
cgroup=$1 interface=$2; shift 2
while
    [ ! -d "$cgroup" ] || find "$cgroup" -depth -type d -exec rmdir {} +
    mkdir "$cgroup"
    (for _ in $(seq 100); do
        ip link set dev "$interface" addrgenmode none && break || sleep 0.1
    done) 2> /dev/null &
    (echo 0 > "$cgroup/cgroup.procs"; exec "$@")
    [ $? -eq 133 ]
do :; done
"""


def running_processes(checkout: Checkout) -> dict[str, list[int]]:
    """Return the processes of a checkout's machines, nspawn and its loop, by machine id."""
    ours = re.compile(rf"\0--machine=({checkout.id}-\d+)\0")
    found: dict[str, list[int]] = {}
    # Not Path.glob, which fails where a process ends between two of its looks.
    for process in (path for path in Path("/proc").iterdir() if path.name.isdigit()):
        with contextlib.suppress(OSError):  # it ended while we looked
            if match := ours.search((process / "cmdline").read_text(errors="replace")):
                found.setdefault(match[1], []).append(int(process.name))
    return found


def processes_of(machine: Machine) -> list[int]:
    """Return the machine's processes on this computer: none where it has no power."""
    return running_processes(machine.checkout).get(machine.id, [])


def boot(machine: Machine) -> None:
    """Start nspawn in the background, under this computer's systemd if there is one."""
    nspawn = ["systemd-nspawn", "--quiet", "--boot", f"--directory={machine.root}"]
    nspawn += [f"--machine={machine.id}", "--register=no", "--keep-unit", "--link-journal=no"]
    nspawn += ["--resolv-conf=off", "--timezone=off", f"--network-bridge={machine.checkout.bridge}"]
    # Debian 13 boots only with the unified control groups, which an older computer may not use.
    layout = "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1"
    if systemd_runs_here():
        reboot = ["SuccessExitStatus=133", "RestartForceExitStatus=133"]
        output = [f"Standard{name}=append:{machine.console}" for name in ("Output", "Error")]
        unit = ["--quiet", "--collect", f"--unit={machine.unit}", f"--setenv={layout}"]
        unit += [f"--property={p}" for p in ("Delegate=yes", "KillMode=mixed", *reboot, *output)]
        run("systemd-run", *unit, *nspawn)
        return
    path = f"PATH={os.environ['PATH']}"
    with machine.console.open("a") as console:
        subprocess.Popen(
            ["sh", "-c", BOOT_LOOP, "sh", cgroup(machine), machine.interface, "env", "-i", path, layout, *nspawn],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )


def shut_down(machine: Machine) -> None:
    """Let the guest power itself off, and wait for it."""
    for process in processes_of(machine):
        os.kill(process, signal.SIGTERM)  # on which nspawn tells the guest
    wait_until(lambda: not processes_of(machine), START_SECONDS, f"{machine.name} does not shut down.")


def cut_power(machine: Machine) -> None:
    """Stop the machine at once, and wait until nothing of it is left but its disk."""
    wait_until(lambda: not kill_guest(machine), 10, f"{machine.name} cannot be killed.")
    # What is left where nspawn itself was killed, and so could not clear away:
    if systemd_runs_here():
        try_to_run("systemctl", "stop", machine.unit)
    wait_until(lambda: clear_cgroups(machine), 10, f"{cgroup(machine)} still has processes.")
    try_to_run("ip", "link", "delete", machine.veth)


def kill_guest(machine: Machine) -> bool:
    """Kill the guest's first process, on which nspawn clears away and ends; tell if it runs yet."""
    ours = processes_of(machine)
    for process in ours:
        with contextlib.suppress(OSError):  # it ended while we looked
            children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
            for guest in {int(child) for child in children}.difference(ours):
                os.kill(guest, signal.SIGKILL)
    return bool(ours)
