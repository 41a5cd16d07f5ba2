"""What a type cannot say about the way in: balancers in front of nginx, and several web hosts behind one name."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from .problem import Problem

if TYPE_CHECKING:
    from .rules import Rule, Site

ADDRESS_EXAMPLE = "site_virtual_address: 10.0.0.100        (of the web hosts' network, and of no host)"
PROXIES_EXAMPLE = 'nginx_trusted_proxies: [10.0.0.4, "fd00::/64"]        (of your balancers, as nginx sees them)'


def trusted_proxies_are_addresses(site: Site) -> Iterator[Problem]:
    """Who is believed to say who asks is an address or a network, and not everybody."""
    for host in site.members.get("web", ()):
        chosen = site.value(host, "nginx_trusted_proxies")
        for each in chosen if isinstance(chosen, list) else ():
            if isinstance(each, str) and (fault := _fault_of_proxy(each)):
                yield Problem(
                    f"`nginx_trusted_proxies` has `{each}`, {fault}.",
                    site.place(host, "nginx_trusted_proxies"),
                    PROXIES_EXAMPLE,
                )


def proxy_protocol_is_spoken_by_somebody(site: Site) -> Iterator[Problem]:
    """Nobody but a balancer speaks the PROXY protocol, and one that is not believed hides all visitors."""
    for host in site.members.get("web", ()):
        if site.value(host, "nginx_proxy_protocol") is True and site.value(host, "nginx_trusted_proxies") == []:
            yield Problem(
                "`nginx_proxy_protocol` is set, and `nginx_trusted_proxies` names no balancer that is believed: each "
                "visitor would be the balancer to the site, to its log and to the count of log-ins.",
                site.place(host, "nginx_proxy_protocol"),
                PROXIES_EXAMPLE,
            )


def virtual_address_is_free(site: Site) -> Iterator[Problem]:
    """An address that web hosts share is one of no host, there are several of them, and all say the same."""
    chosen = {host: site.value(host, "site_virtual_address") for host in site.members.get("web", ())}
    for host, address in chosen.items():
        if not isinstance(address, str) or not address:
            continue
        fault = _fault_of_address(site, host, address)
        others = [other for other, theirs in chosen.items() if theirs != address]
        if not fault and len(chosen) < 2:
            fault = f"and `web` has one host, {host}: nobody could take it over"
        elif not fault and others:
            fault = f"and that of {others[0]} is {chosen[others[0]] or 'empty'}: they share one or none"
        if fault:
            yield Problem(
                f"`site_virtual_address` is {address}, {fault}.",
                site.place(host, "site_virtual_address"),
                ADDRESS_EXAMPLE,
            )
            return


def _fault_of_address(site: Site, host: str, text: str) -> str:
    """Say why web hosts cannot share an address, empty where they can."""
    try:
        address = ipaddress.ip_interface(text).ip
    except ValueError:
        return "which is no address"
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
        return "which others do not reach, or not there alone"
    members = site.value(host, "site_members")
    for name, theirs in members.items() if isinstance(members, Mapping) else ():
        found = _address(theirs)
        if found == address:
            return f"which is that of {name} alone"
        if name in site.members.get("web", ()) and found and found.version != address.version:
            return f"and {name} has {theirs}, of the other version of IP: keepalived asks its like by the same one"
    for other in site.hosts:
        if _address(site.value(other, "ansible_host")) == address:
            return f"by which Ansible reaches {other} alone"
    return ""


def _address(text: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address, None for what is none, such as a name."""
    try:
        return ipaddress.ip_address(str(text))
    except ValueError:
        return None


def number_of_keepalived_is_one(site: Site) -> Iterator[Problem]:
    """VRRP knows who agrees upon an address by a byte."""
    for host in site.members.get("web", ()):
        number = site.value(host, "keepalived_number")
        if isinstance(number, int) and not 0 <= number <= 255:
            yield Problem(
                f"`keepalived_number` is {number}; it is a number from 1 to 255, or 0 for one made of the address.",
                site.place(host, "keepalived_number"),
                "keepalived_number: 51",
            )


def _fault_of_proxy(text: str) -> str:
    """Say why somebody can be no trusted proxy, empty where they can."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return "which is neither an address nor a network (one ends with its first address: 10.0.0.0/24)"
    if network.prefixlen == 0:
        return "which is everybody: then a visitor says himself who he is"
    return ""


ENTRY_RULES: tuple[Rule, ...] = (
    trusted_proxies_are_addresses,
    proxy_protocol_is_spoken_by_somebody,
    virtual_address_is_free,
    number_of_keepalived_is_one,
)
