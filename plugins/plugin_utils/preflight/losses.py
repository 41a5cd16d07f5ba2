"""What a site goes on with while one of its hosts is lost, by its inventory. Times: docs/several-hosts.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .engines import EXAMPLE, OWN_BROKERS
from .problem import Problem

if TYPE_CHECKING:
    from .rules import Rule, Site

SURVIVED = ("nothing", "host")


@dataclass(frozen=True)
class Part:
    """A part of what a site does.

    Attributes:
        name: what people call it.
        meanwhile: what becomes of it while a host is lost.
        group: the group that has it on one host alone; empty where it goes on.
        remedy: a line of hosts.yml with which it would go on.
    """

    name: str
    meanwhile: str
    group: str = ""
    remedy: str = ""


def parts_of(site: Site) -> Iterator[Part]:
    """Yield what becomes of pages, tasks, the database and the schedule while any one host is lost."""
    web, workers, beat = (site.members.get(group, ()) for group in ("web", "workers", "beat"))
    yield _alone("pages", "web", web) or Part("pages", _entry(site, web[0]))
    broker = site.members.get("broker", ())
    is_own = bool(broker) and site.value(broker[0], "site_broker") in OWN_BROKERS
    yield (
        (_alone("tasks", "broker", broker, few=3) if is_own else None)
        or _alone("tasks", "workers", workers)
        or Part("tasks", f"the other hosts run them after some seconds, and {_accepted(is_own=is_own)}")
    )
    if not _has_own_database(site):
        yield Part("the database", "is elsewhere, and as it is there")
    else:
        yield _alone("the database", "database", site.members.get("database", ()), few=3) or Part(
            "the database",
            "where its leader is lost, there is none for half a minute; nothing that was committed is lost",
        )
    if beat:
        yield _alone("the schedule", "beat", beat) or Part("the schedule", "goes on elsewhere after about ten seconds")


def told(site: Site) -> list[str]:
    """Return that in lines for whoever runs a playbook: none of a site on one host, of which all is lost."""
    if len(site.hosts) < 2:
        return []
    parts = [*parts_of(site)]
    width = max(len(part.name) for part in parts)
    return ["While any one host is lost:", *(f"  {part.name:{width}}  {part.meanwhile}" for part in parts)]


def survives_what_it_is_to(site: Site) -> Iterator[Problem]:
    """With `site_survives: host` no part is on one host alone."""
    host = site.hosts[0] if site.hosts else ""
    if not host or site.value(host, "site_survives") != "host":
        return
    for part in parts_of(site):
        if part.group:
            yield Problem(
                f"`site_survives` is host, and the group `{part.group}` is one host. While it is lost: {part.name}, "
                f"{part.meanwhile}.",
                site.hosts_file,
                f"{part.remedy}        (or site_survives: nothing)",
            )


def _alone(name: str, group: str, hosts: Sequence[str], few: int = 2) -> Part | None:
    """Return what becomes of something that is on one host; None where it is on several."""
    if len(hosts) != 1:
        return None
    example = EXAMPLE if few == 3 else "{group}: {{ hosts: {{ host1: , host2: }} }}"
    return Part(name, f"none until {hosts[0]} is back", group, example.format(group=group))


def _entry(site: Site, host: str) -> str:
    if site.value(host, "site_virtual_address"):
        return "the other web hosts have them after about four seconds"
    return "the other web hosts have them, for whoever is led there: by several addresses in DNS, or a balancer"


def _accepted(*, is_own: bool) -> str:
    return "none that was accepted is lost" if is_own else "the broker elsewhere is as it is there"


def _has_own_database(site: Site) -> bool:
    chosen = site.value(site.hosts[0], "site_environment")
    return not (isinstance(chosen, Mapping) and "DATABASE_URL" in chosen)


LOSS_RULES: tuple[Rule, ...] = (survives_what_it_is_to,)
