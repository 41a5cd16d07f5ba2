"""Who is told when something is wrong with a site, though nobody looks (`roles/site_alerts`).

A timer looks at a host (`site_report.py`) every few minutes. What is wrong is a finding (`site_findings.py`), and what
was told of it is remembered here, for each way by itself: e-mail, webhook. Something is told when it is new, when it
is gone, and once a day while it lasts. What comes and goes within two looks is not told at all.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.celeriac.site.plugins.module_utils.site_names import Names
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Systemd, iso_timestamp

# One look may see a process that is just being started.
LOOKS = 2
REMINDED = timedelta(days=1)
# What was told is noted in the first; in the other one, until the next boot, while the disk is full.
STATES = (Path("/var/lib"), Path("/run"))
E_MAIL, WEBHOOK = "e-mail", "webhook"
WAYS = (E_MAIL, WEBHOOK)

# What a way knows: for each finding that it has seen, by its key, what is below.
Known = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        key: the same in each look.
        area: where it is seen: a look that is blind there says nothing of it.
        what: is wrong.
        todo: what to do, a command where there is one.
        looks: in how many looks it must be seen before it is told.
        seconds: and how long.
    """

    key: str
    area: str
    what: str
    todo: str
    looks: int = LOOKS
    seconds: int = 0


@dataclass(frozen=True)
class News:
    """What there is to tell.

    Attributes:
        new: findings, as they are known.
        gone: those that were told, and are no more.
        lasting: those that were told, and are still.
        due: whether it is told now.
    """

    new: list[Mapping[str, Any]]
    gone: list[Mapping[str, Any]]
    lasting: list[Mapping[str, Any]]
    due: bool


def look(known: Known, found: Iterable[Finding], blind: Collection[str], now: datetime) -> dict[str, dict[str, Any]]:
    """Return what is known after a look.

    Args:
        known: before it.
        found: what it has found.
        blind: areas that it has not seen; what was told of them is as before.
        now: when it was (UTC).
    """
    after: dict[str, dict[str, Any]] = {}
    for finding in found:
        before = known.get(finding.key, {"since": _text(now), "seen": 0, "told": None})
        after[finding.key] = {**before, **asdict(finding), "seen": before["seen"] + 1, "missed": 0}
    for key, entry in known.items():
        # What was not told yet, and is not seen, begins anew: a deploy or a maintenance is no time that it has lasted.
        if key not in after and entry["told"]:
            after[key] = {**entry, "missed": entry["missed"] + (entry["area"] not in blind)}
    return after


def news(known: Known, now: datetime) -> News:
    """Return what there is to tell.

    Args:
        known: after a look.
        now: when it was.
    """
    told = [entry for entry in known.values() if entry["told"]]
    new = [entry for entry in known.values() if not entry["told"] and _holds(entry, now)]
    gone = [entry for entry in told if entry["missed"] >= LOOKS]
    lasting = [entry for entry in told if entry["missed"] < LOOKS]
    reminder = any(now - datetime.fromisoformat(entry["told"]) >= REMINDED for entry in lasting)
    return News(new, gone, lasting, bool(new or gone or reminder))


def _holds(entry: Mapping[str, Any], now: datetime) -> bool:
    lasted = now - datetime.fromisoformat(entry["since"])
    return bool(entry["seen"] >= entry["looks"] and lasted >= timedelta(seconds=entry["seconds"]))


def told(known: Known, what: News, now: datetime) -> dict[str, dict[str, Any]]:
    """Return what is known when the news have arrived.

    Args:
        known: before.
        what: was told.
        now: when.
    """
    gone = {entry["key"] for entry in what.gone}
    new = {entry["key"] for entry in (*what.new, *what.lasting)}
    return {
        key: {**entry, "told": _text(now)} if key in new else dict(entry)
        for key, entry in known.items()
        if key not in gone
    }


def line(entry: Mapping[str, Any]) -> str:
    """Return a finding as a person reads it: what is wrong, since when, and what to do."""
    return f"{entry['what']}, since {datetime.fromisoformat(entry['since']):%F %H:%M} UTC: {entry['todo']}"


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%FT%TZ}"


# ---- What the status says


def name_of(names: Names) -> str:
    """Return what the unit, its timer, its state and its program are called."""
    return f"{names.prefix}site-alerts"


def report(systemd: Systemd, names: Names) -> dict[str, Any] | None:
    """Return how the alerts of a host are, for the status; None where there are none."""
    name = name_of(names)
    timer = systemd.properties(f"{name}.timer", "LoadState", "ActiveState", "NextElapseUSecRealtime")
    if timer.get("LoadState") != "loaded":
        return None
    unit = systemd.properties(f"{name}.service", "Result", "ExecMainExitTimestamp", "ActiveState")
    failed = unit.get("Result", "success") != "success" and unit.get("ActiveState") == "failed"
    why = (systemd.said_by(name) or f"{name} has ended with {unit['Result']}") if failed else ""
    return {
        "timer": timer["ActiveState"],
        "told": sum(bool(entry["told"]) for entry in _known_on(name).values()),
        "why_not": why,
        "ended": iso_timestamp(unit.get("ExecMainExitTimestamp", "")),
        "next": iso_timestamp(timer.get("NextElapseUSecRealtime", "")),
    }


def _known_on(name: str) -> dict[str, Any]:
    """Return what all ways know together."""
    known: dict[str, Any] = {}
    for file in (folder / name / f"{way}.json" for way in WAYS for folder in STATES):
        # What has written it has no rights, and nothing that it may hold ends a status.
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            found: dict[str, Any] = json.loads(file.read_text())
            known |= {key: entry for key, entry in found.items() if entry["told"] or key not in known}
    return known


def as_text(alerts: Mapping[str, Any] | None) -> list[str]:
    """Return how the alerts are as a person reads it; nothing where there are none."""
    if not alerts:
        return []
    if alerts["timer"] != "active":
        return [f"alerts: NONE, their timer is {alerts['timer']}"]
    if alerts["why_not"]:
        return [f"alerts: NOT SENT at {alerts['ended']}: {alerts['why_not']} Next try: {alerts['next']}"]
    count = f"{alerts['told']} told" if alerts["told"] else "nothing to tell"
    return [f"alerts: {count}, last look at {alerts['ended'] or 'no time yet'}"]
