"""What a type cannot say about the way in: balancers in front of nginx, and several web hosts behind one name."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .problem import Problem

if TYPE_CHECKING:
    from .rules import Rule, Site

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
)
