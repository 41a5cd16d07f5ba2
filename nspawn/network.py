"""The network: one bridge, one subnet and one way out for the machines of a checkout."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from nspawn.checkout import BRIDGE_PREFIX, Checkout
from nspawn.errors import MachineError
from nspawn.files import write_whole
from nspawn.shell import run, try_to_run

LOCK = "network"  # on everything that machines of one or of all checkouts share
OLD_IP_FORWARD = Path("/run/celeriac-machines.ip_forward")
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


def free_subnet(start: int, taken: Iterable[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    """Choose a private /24.

    Args:
        start: the search begins at the start-th, so that checkouts try different ones first.
        taken: networks that it must not overlap.

    Returns:
        The subnet.

    Raises:
        MachineError: none is free.
    """
    taken = list(taken)
    for block in ("172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16"):
        subnets = list(ipaddress.IPv4Network(block).subnets(new_prefix=24))
        first = start % len(subnets)
        for subnet in subnets[first:] + subnets[:first]:
            if not any(subnet.overlaps(other) for other in taken):
                return subnet
    raise MachineError("No private /24 is free on this computer: see `ip route show table all`.")


def routed_networks() -> list[ipaddress.IPv4Network]:
    """Return the networks that this computer has routes or addresses in."""
    routes = json.loads(run("ip", "-json", "-4", "route", "show", "table", "all"))
    found = [ipaddress.IPv4Network(route["dst"]) for route in routes if route["dst"] != "default"]
    return [network for network in found if network.prefixlen >= 8]  # wider: a VPN's "default"


def bridges() -> set[str]:
    """Return the names of the bridges of all checkouts."""
    return {path.name for path in Path("/sys/class/net").glob(f"{BRIDGE_PREFIX}*")}


def address_of(bridge: str) -> ipaddress.IPv4Interface | None:
    """Return the address of a bridge, if it has one yet."""
    for info in json.loads(run("ip", "-json", "-4", "address", "show", "dev", bridge)):
        for address in info.get("addr_info", []):
            return ipaddress.IPv4Interface((address["local"], address["prefixlen"]))
    return None


def set_up_network(checkout: Checkout) -> ipaddress.IPv4Interface:
    """Make what a checkout's network lacks, and return the bridge's address.

    To be called with the network lock held, as `remove_network` is.
    """
    bridge = checkout.bridge
    existing = bridges()
    if not existing:  # the first of all checkouts notes what the last one has to restore
        write_whole(OLD_IP_FORWARD, IP_FORWARD.read_text())
    if bridge not in existing:
        run("ip", "link", "add", bridge, "type", "bridge")
        withhold_addresses(bridge)
    address = address_of(bridge)
    if not address:
        subnet = free_subnet(int(checkout.id, 16), routed_networks())
        address = ipaddress.IPv4Interface(f"{subnet[1]}/{subnet.prefixlen}")
        run("ip", "address", "add", str(address), "dev", bridge)
    run("ip", "link", "set", bridge, "up")
    replace_table(
        bridge,
        f"add chain ip {bridge} out {{ type nat hook postrouting priority srcnat; }}\n"
        f"add rule ip {bridge} out ip saddr {address.network} oifname != {bridge} masquerade",
    )
    IP_FORWARD.write_text("1")
    return address


def withhold_addresses(interface: str) -> None:
    """Let an interface take no address by itself.

    A browser takes each new one for another network and drops what it loads (ERR_NETWORK_CHANGED): tests of pages
    beside a machine that boots would see it.
    """
    try_to_run("ip", "link", "set", "dev", interface, "addrgenmode", "none")


def leave_network(interface: str) -> None:
    """Take a machine's interface off the bridge. Its other end goes on to have a carrier: what it sends is lost."""
    run("ip", "link", "set", "dev", interface, "nomaster")


def join_network(checkout: Checkout, interface: str) -> None:
    """Put a machine's interface on the bridge."""
    run("ip", "link", "set", "dev", interface, "master", checkout.bridge)


def replace_table(name: str, rules: str) -> None:
    """Replace an nftables table in one step; without rules, remove it."""
    empty = f"add table ip {name}\ndelete table ip {name}\n"
    full = f"add table ip {name}\n{rules}\n" if rules else ""
    run("nft", "-f", "-", stdin=empty + full)


def remove_network(checkout: Checkout) -> None:
    """Remove a checkout's network; the last checkout restores the computer's setting."""
    existing = bridges()
    last = existing <= {checkout.bridge}
    replace_table(checkout.bridge, "")
    # Before the bridge goes: as long as it stands, the next `down` does what a crash left undone.
    if last and OLD_IP_FORWARD.exists():
        IP_FORWARD.write_text(OLD_IP_FORWARD.read_text())
    if checkout.bridge in existing:
        run("ip", "link", "delete", checkout.bridge)
    if last:
        OLD_IP_FORWARD.unlink(missing_ok=True)
        for folder in ("propagate", "locks", "unix-export", "."):  # nspawn leaves them, empty
            with contextlib.suppress(OSError):
                (Path("/run/systemd/nspawn") / folder).rmdir()


def warn_of_firewall(bridge: str) -> None:
    """Say when a firewall, like Docker's, drops the machines' packets: no table of ours helps."""
    for item in json.loads(run("nft", "--json", "list", "chains"))["nftables"]:
        chain = item.get("chain", {})
        if (chain.get("hook"), chain.get("policy")) != ("forward", "drop"):
            continue
        where = f"{chain['family']} {chain['table']} {chain['name']}"
        if bridge not in run("nft", "list", "chain", *where.split(" ")):
            insert = f"nft insert rule {where}"
            print(
                f"The firewall drops what it forwards in `{where}`; to let the machines out:\n"
                f"  {insert} iifname {bridge} accept; {insert} oifname {bridge} accept",
                file=sys.stderr,
            )
