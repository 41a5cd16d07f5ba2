"""Snapshots: copies of a machine's disk that new machines are made from."""

from __future__ import annotations

from pathlib import Path

from nspawn.checkout import Checkout
from nspawn.errors import MachineError
from nspawn.files import copy_tree, remove_tree
from nspawn.machine import Machine
from nspawn.power import shut_down


def find_snapshot(checkout: Checkout, name: str) -> Path:
    """Return the root file system of a snapshot.

    Raises:
        MachineError: there is none of this name.
    """
    root = checkout.snapshots / name
    if not root.exists():
        raise MachineError(f"There is no snapshot {name}.")
    return root


def save_snapshot(machine: Machine, name: str) -> None:
    """Shut a machine down and keep a copy of its disk; one of the same name is replaced."""
    shut_down(machine)
    root = machine.checkout.snapshots / name
    remove_tree(root)
    copy_tree(machine.root, root)
