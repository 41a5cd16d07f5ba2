"""The control groups of machines, where systemd does not manage this computer."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from nspawn.machine import Machine

CGROUPS = Path("/sys/fs/cgroup")


def cgroup(machine: Machine) -> Path:
    """Return the machine's control group, made where systemd does not manage this computer."""
    hybrid = CGROUPS / "unified"
    return (hybrid if hybrid.exists() else CGROUPS) / machine.id


def clear_cgroups(machine: Machine) -> bool:
    """Kill what is left in the machine's control groups, and remove them; return whether all are.

    Under the old layout nspawn makes a second one, in the hierarchy named systemd.
    """
    groups = [*CGROUPS.glob(machine.id), *CGROUPS.glob(f"*/{machine.id}")]
    for group in groups:
        with contextlib.suppress(OSError):  # gone meanwhile, or busy until the last process ends
            for file in group.rglob("cgroup.procs"):
                for process in file.read_text().split():
                    os.kill(int(process), signal.SIGKILL)
            for inner in sorted(group.glob("**/"), reverse=True):
                inner.rmdir()
    return not any(group.exists() for group in groups)
