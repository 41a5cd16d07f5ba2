"""What each command of `bin/machine` does; its help is the docstring here."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

from nspawn.checkout import Checkout
from nspawn.computer import prepare_computer
from nspawn.errors import MachineError
from nspawn.files import copy_tree, remove_tree
from nspawn.identity import configure
from nspawn.images import USER, base_image, debian_release
from nspawn.locks import locked
from nspawn.machine import Machine, allocate, existing_machine, machines
from nspawn.network import (
    LOCK,
    join_network,
    leave_network,
    remove_network,
    set_up_network,
    warn_of_firewall,
    withhold_addresses,
)
from nspawn.power import START_SECONDS, boot, cut_power, processes_of, running_processes
from nspawn.shell import try_to_run, wait_until
from nspawn.snapshots import find_snapshot, save_snapshot
from nspawn.ssh import ssh_command, ssh_options, wait_for_ssh


def up(checkout: Checkout, args: argparse.Namespace) -> None:
    """Make and boot machines, and wait until they answer; do nothing to those that run."""
    prepare_computer(checkout.folder)
    names = sorted(set(args.names))
    with contextlib.ExitStack() as locks:
        for name in names:
            locks.enter_context(checkout.locked(name))
        for machine in [start(checkout, name, args) for name in names]:
            wait_for_ssh(machine)
    warn_of_firewall(checkout.bridge)


def start(checkout: Checkout, name: str, args: argparse.Namespace) -> Machine:
    """Boot a machine that does not run, after making it if it does not exist."""
    machine = machines(checkout).get(name)
    if machine and (args.snapshot or args.debian not in (None, machine.debian)):
        raise MachineError(f"{name} exists, with Debian {machine.debian}: remove it first with `down`.")
    if machine and processes_of(machine):
        return machine
    if args.snapshot:
        source = find_snapshot(checkout, args.snapshot)
    else:
        source = base_image(machine.debian if machine else args.debian or "13")
    with locked(LOCK):
        machine = machine or allocate(checkout, name, debian_release(source))
        bridge = set_up_network(checkout)
    machine = replace(machine, address=str(bridge.network[machine.number]))
    machine.save()
    cut_power(machine)  # clears away what a crash may have left
    if not machine.root.exists():
        copy_tree(source, machine.root)
    configure(machine, bridge)
    boot(machine)
    # Its end here is there before the guest brings up the other one.
    wait_until(lambda: Path("/sys/class/net", machine.interface).exists(), START_SECONDS, f"{name} does not start.")
    withhold_addresses(machine.interface)
    return machine


def down(checkout: Checkout, args: argparse.Namespace) -> None:
    """Remove machines; with the last one of the checkout go its network and its key."""
    names = args.names
    if args.all:
        names = [folder.name for folder in checkout.folder.glob("hosts/*")]
        remove_strays(checkout)
        shutil.rmtree(checkout.snapshots, ignore_errors=True)
    for name in names:
        with checkout.locked(name):
            if machine := machines(checkout).get(name):
                cut_power(machine)
                remove_tree(machine.root)
            shutil.rmtree(checkout.host(name), ignore_errors=True)
    with locked(LOCK):
        if not machines(checkout) and Path("/usr/sbin/nft").exists():
            remove_network(checkout)
            if not checkout.snapshots.exists():
                shutil.rmtree(checkout.folder, ignore_errors=True)


def remove_strays(checkout: Checkout) -> None:
    """Cut the power of machines whose files someone has deleted while they ran."""
    known = {machine.id for machine in machines(checkout).values()}
    for stray in running_processes(checkout).keys() - known:
        cut_power(Machine(checkout, "", "", int(stray.rpartition("-")[2])))


def kill(checkout: Checkout, args: argparse.Namespace) -> None:
    """Cut the power of a machine; its disk stays, and `up` boots it again."""
    machine = existing_machine(checkout, args.name)
    with checkout.locked(args.name):
        cut_power(machine)


def wipe(checkout: Checkout, args: argparse.Namespace) -> None:
    """Cut the power of a machine and take its disk; `up` gives it a new one, at the address that it had."""
    machine = existing_machine(checkout, args.name)
    with checkout.locked(args.name):
        cut_power(machine)
        remove_tree(machine.root)


def unplug(checkout: Checkout, args: argparse.Namespace) -> None:
    """Take a machine off its network without a word, as a switch does that dies; `plug` brings it back."""
    machine = existing_machine(checkout, args.name)
    with checkout.locked(args.name):
        leave_network(machine.interface)


def plug(checkout: Checkout, args: argparse.Namespace) -> None:
    """Bring a machine back to its network."""
    machine = existing_machine(checkout, args.name)
    with checkout.locked(args.name):
        join_network(checkout, machine.interface)


def reboot(checkout: Checkout, args: argparse.Namespace) -> None:
    """Let a machine reboot itself, and wait until it answers again."""
    machine = existing_machine(checkout, args.name)
    old_boot = wait_for_ssh(machine)
    try_to_run(*ssh_command(machine), "sudo systemctl reboot")
    wait_for_ssh(machine, old_boot)


def save(checkout: Checkout, args: argparse.Namespace) -> None:
    """Shut a machine down and keep a copy of its disk, for `up --from`."""
    machine = existing_machine(checkout, args.name)
    with checkout.locked(args.name):
        save_snapshot(machine, args.snapshot)


def show_list(checkout: Checkout, args: argparse.Namespace) -> None:
    """Print the machines."""
    processes = running_processes(checkout)
    for machine in machines(checkout).values():
        state = "running" if machine.id in processes else "stopped"
        print(f"{machine.name:<16} {machine.debian:<4} {machine.address:<16} {state}")


def show_address(checkout: Checkout, args: argparse.Namespace) -> None:
    """Print a machine's address."""
    print(existing_machine(checkout, args.name).address)


def show_inventory(checkout: Checkout, args: argparse.Namespace) -> None:
    """Print what Ansible must know of a machine, as JSON."""
    machine = existing_machine(checkout, args.name)
    variables = {
        "ansible_host": machine.address,
        "ansible_user": USER,
        "ansible_ssh_private_key_file": str(checkout.key),
        "ansible_ssh_common_args": shlex.join(ssh_options(machine)),
    }
    print(json.dumps(variables, indent=2))


def ssh(checkout: Checkout, args: argparse.Namespace) -> None:
    """Run a command on a machine, or log in; end with its exit status."""
    command = ssh_command(existing_machine(checkout, args.name), args.user)
    os.execvp("ssh", [*command, *args.words])
