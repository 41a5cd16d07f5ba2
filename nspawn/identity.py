"""What makes a copy of a base image or of a snapshot this machine and no other."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from nspawn.computer import name_servers
from nspawn.files import write_whole
from nspawn.images import USER, USER_ID
from nspawn.machine import Machine
from nspawn.shell import run


def configure(machine: Machine, bridge: ipaddress.IPv4Interface) -> None:
    """Turn a copy of a base image or snapshot into this machine, and tell it its address."""
    etc = machine.root / "etc"
    address = f"Address={machine.address}/{bridge.network.prefixlen}\nGateway={bridge.ip}\n"
    network = f"[Match]\nName=host0\n\n[Network]\n{address}"
    # Replaced, not written into: the guest may have made a link of it, which leads elsewhere here.
    write_whole(etc / "systemd/network/10-host0.network", network)
    write_whole(etc / "resolv.conf", name_servers())
    if (etc / "hostname").read_text() != f"{machine.name}\n":
        make_identity(machine)
    kind, key, *_ = (etc / "ssh/ssh_host_ed25519_key.pub").read_text().split()
    write_whole(machine.known_hosts, f"{machine.address} {kind} {key}\n")


def make_identity(machine: Machine) -> None:
    """Give the machine what it must not share with another."""
    etc = machine.root / "etc"
    (etc / "machine-id").write_text("")  # systemd makes one at the next boot
    hosts = f"127.0.0.1 localhost\n127.0.1.1 {machine.name}\n::1 localhost\n"
    write_whole(etc / "hosts", hosts)
    for key in (etc / "ssh").glob("ssh_host_*"):
        key.unlink()
    key = etc / "ssh/ssh_host_ed25519_key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"root@{machine.name}", "-f", key)
    authorized = machine.checkout.key.with_suffix(".pub").read_text()
    authorize(authorized, machine.root / "root", 0)
    authorize(authorized, machine.root / "home" / USER, USER_ID)
    write_whole(etc / "hostname", f"{machine.name}\n")  # last: it marks that all is done


def authorize(key: str, home: Path, user_id: int) -> None:
    """Let the holder of a key log in to an account of the machine."""
    file = home / ".ssh/authorized_keys"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.write_text(key)
    for path in (file.parent, file):
        os.chown(path, user_id, user_id)
