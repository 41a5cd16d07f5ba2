"""What a type cannot say about a broker, or a database, of several hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from .problem import Problem

if TYPE_CHECKING:
    from .rules import Rule, Site

# The brokers that the bundle brings.
OWN_BROKERS = ("redis", "rabbitmq")
# With more of them each task, or each write, waits for the disks of more than half of these.
MOST = 5
EXAMPLE = "{group}: {{ hosts: {{ host1: , host2: , host3: }} }}"
# What is enough for one that only votes.
ENOUGH = {
    "broker": "512 MB of memory and a disk are enough; it need run nothing else",
    "database": "it needs the disk for all that is in it, and need run nothing else",
}
# Why an engine has no host of which the others know by an address of IPv6.
IPV4 = {
    "broker": "RabbitMQ calls its nodes after their addresses, and takes those of IPv4 alone",
    "database": "which of them may copy the others is said by addresses of IPv4",
}


def brokers_can_decide(site: Site) -> Iterator[Problem]:
    """Several hosts of a broker are RabbitMQ's, and so many that most of them are there when one is lost."""
    hosts = site.members.get("broker", ())
    if len(hosts) < 2 or site.value(hosts[0], "site_broker") not in OWN_BROKERS:
        return
    found = f"The group `broker` has {len(hosts)} hosts ({', '.join(hosts)})"
    if fault := _fault_of_number("broker", len(hosts)):
        yield Problem(f"{found}{fault}", site.hosts_file, EXAMPLE.format(group="broker"))
        return
    for choice, right in {"site_broker": "rabbitmq", "site_broker_before": "none"}.items():
        if site.value(hosts[0], choice) == "redis":
            yield Problem(
                f"{found}, and `{choice}` is redis: a Redis that takes the place of another one may not have all that "
                "that one had accepted, so it has one host. Several are RabbitMQ's (docs/brokers.md).",
                site.place(hosts[0], choice),
                f"{choice}: {right}",
            )
    yield from _not_on_one_of_several(site, hosts[0], found)


def databases_can_decide(site: Site) -> Iterator[Problem]:
    """Several hosts of a database are so many that most of them are there when one is lost."""
    hosts = site.members.get("database", ())
    if len(hosts) < 2:
        return
    found = f"The group `database` has {len(hosts)} hosts ({', '.join(hosts)})"
    if fault := _fault_of_number("database", len(hosts)):
        yield Problem(f"{found}{fault}", site.hosts_file, EXAMPLE.format(group="database"))
        return
    wanted = {
        "site_name": ("default", "several sites share the PostgreSQL of a host, and not one of several"),
        "backup_repository": ("none", "backups are made where it is on one host, so far (docs/databases.md)"),
    }
    for choice, (right, why) in wanted.items():
        if (value := site.value(hosts[0], choice)) not in (None, right):
            yield Problem(
                f"{found}, and `{choice}` is {value}: {why}.", site.place(hosts[0], choice), f"{choice}: {right}"
            )


def engine_members_have_names(site: Site) -> Iterator[Problem]:
    """The members of an engine know each other by addresses of IPv4."""
    for group, why in IPV4.items():
        hosts = site.members.get(group, ())
        if len(hosts) < 2:
            continue
        members = site.value(hosts[0], "site_members")
        for host in hosts:
            address = str(members.get(host, "")) if isinstance(members, Mapping) else ""
            if ":" in address:
                yield Problem(
                    f"`{host}` is one of several hosts of the {group}, and the others reach it by {address}: {why}.",
                    site.place(host, "site_cluster_address"),
                    f"{host}: {{ site_cluster_address: 10.0.0.5 }}        (in hosts.yml)",
                )


def _fault_of_number(group: str, hosts: int) -> str:
    """Why so many hosts are no engine; empty where they are."""
    if hosts == 2:
        both = "two cannot outvote each other, and when either is lost both stop"
        return f": {both}. Give it a third ({ENOUGH[group]}), or one."
    if hosts % 2 == 0:
        return f": no more of them may be lost than of {hosts - 1}, and one more can be. Give it 3, or 5."
    what = "task" if group == "broker" else "write"
    return "" if hosts <= MOST else f": each {what} would wait for {hosts // 2 + 1} disks. Give it 3, or 5."


def _not_on_one_of_several(site: Site, host: str, found: str) -> Iterator[Problem]:
    """Refuse results and a cache in a Redis, of which each host of the broker would have another one."""
    wanted = {"site_result_backend": ("redis", "django-db"), "site_redis_cache": (True, "false")}
    for choice, (value, right) in wanted.items():
        if site.value(host, choice) == value:
            yield Problem(
                f"{found}, and `{choice}` is {str(value).lower()}: that Redis is on one host, and goes with it.",
                site.place(host, choice),
                f"{choice}: {right}",
            )


ENGINE_RULES: tuple[Rule, ...] = (brokers_can_decide, databases_can_decide, engine_members_have_names)
