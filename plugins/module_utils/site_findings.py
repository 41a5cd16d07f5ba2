"""What of the report of a host is wrong, so that somebody must be told: `roles/site_alerts` tells it.

A report is that of `site_report.py`, which the status shows; here is only what of it counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.celeriac.site.plugins.module_utils import site_backup, site_databases
from ansible_collections.celeriac.site.plugins.module_utils.site_alerts import Finding
from ansible_collections.celeriac.site.plugins.module_utils.site_names import Names
from ansible_collections.celeriac.site.plugins.module_utils.site_report import ENDS_SOON_DAYS, NEARLY_FULL

# Where something is seen. A look may be blind there: nothing is as ever in a deploy, in a maintenance, in a restore.
HOST, DAEMONS, PROCESSES, WITHIN = "host", "daemons", "processes", "within"
RUNS = ("active", "reloading", "refreshing")


@dataclass(frozen=True)
class Limits:
    """What is still well.

    Attributes:
        disk_percent: so much of a file system, or of its inodes, may be in use.
        queue_seconds: so long a queue may have something in it at every look.
        backup_hours: so old the last backup of the database may be.
        beat_seconds: so old the last tick of beat may be.
    """

    disk_percent: int
    queue_seconds: int
    backup_hours: int
    beat_seconds: int


def blind(report: Mapping[str, Any]) -> set[str]:
    """Return the areas of which a report says nothing that counts."""
    if "failed" in report:
        return {HOST, DAEMONS, PROCESSES, WITHIN}
    if report["busy"]:
        return {DAEMONS, PROCESSES, WITHIN}
    if report["maintenance"]:
        return {PROCESSES, WITHIN}
    return {WITHIN} if "error" in report else set()


def findings(report: Mapping[str, Any], limits: Limits, now: datetime) -> list[Finding]:
    """Return what is wrong.

    Args:
        report: of a look.
        limits: what is still well.
        now: when it was (UTC).
    """
    names = Names(report["site"])
    if "failed" in report:
        todo = f"journalctl -u {names.prefix}site-alerts"
        return [Finding("look", "look", f"the host cannot be looked at: {report['failed']}", todo)]
    unseen = blind(report)
    found = [
        *_of_maintenance(report),
        *_of_disks(report, limits),
        *_of_daemons(report),
        *_of_the_certificate(report, names, now),
        *_of_the_member(report, now),
        *_of_the_database(report),
        *_of_backups(report, limits, now),
        *_of_units(report, names, limits, now),
        *_of_timers(report),
        *_of_the_web(report, names),
        *_of_queues(report, names, limits),
        *_of_beat(report, names),
    ]
    return [finding for finding in found if finding.area not in unseen]


def _of_maintenance(report: Mapping[str, Any]) -> Iterator[Finding]:
    now = report["maintenance"]
    if now and now["why"] and not report["busy"]:
        yield Finding("maintenance", HOST, f"people wait: {now['why']}", "playbooks/status.yml, then the deploy again")


def _of_disks(report: Mapping[str, Any], limits: Limits) -> Iterator[Finding]:
    for disk in report["disks"]:
        path, free = disk["path"], disk["free_bytes"] // 2**20
        if disk["used_percent"] >= limits.disk_percent:
            what = f"the disk of {path} is {disk['used_percent']} % full, {free} MB are free"
            yield Finding(f"disk {path}", HOST, what, f"du -xh --max-depth=2 {path} | sort -h | tail")
        if disk["inodes_percent"] >= limits.disk_percent:
            what = f"the disk of {path} has {disk['inodes_percent']} % of its inodes in use"
            yield Finding(f"inodes {path}", HOST, what, f"du -x --inodes --max-depth=2 {path} | sort -n | tail")


def _of_daemons(report: Mapping[str, Any]) -> Iterator[Finding]:
    for unit, state in report["daemons"].items():
        if state not in RUNS:
            yield _not_running(unit, state, unit, DAEMONS)


def _not_running(name: str, state: str, unit: str, area: str) -> Finding:
    # What has failed is not on its way to anything.
    looks = {"looks": 1} if state == "failed" else {}
    todo = f"journalctl -u {unit} -n 50; systemctl restart {name}"
    return Finding(f"unit {name}", area, f"{name} is {state}", todo, **looks)


def _of_units(report: Mapping[str, Any], names: Names, limits: Limits, now: datetime) -> Iterator[Finding]:
    if not report["release"]:
        return
    for name, unit in report["units"].items():
        if unit["state"] not in RUNS:
            yield _not_running(name, unit["state"], unit["unit"], PROCESSES)
        tick = re.match(r"last tick (\d+)", unit["says"])
        if tick and now.timestamp() - int(tick[1]) > limits.beat_seconds:
            what = f"{name} does not tick: {unit['says']}"
            yield Finding(f"tick {name}", PROCESSES, what, f"systemctl status {name}; systemctl restart {name}")
    for name in sorted(set(report["processes"]) - {*report["units"], *report["timers"]}):
        todo = "playbooks/deploy.yml"
        yield Finding(f"unit {name}", PROCESSES, f"{name} is not there", todo)
    if report["candidates"]:
        what = f"a switch has not ended: {', '.join(report['candidates'])}"
        yield Finding("switch", PROCESSES, what, "playbooks/deploy.yml again")


def _of_timers(report: Mapping[str, Any]) -> Iterator[Finding]:
    for name, timer in report["timers"].items():
        if timer["failed"]:
            what = f"the last run of {name} has failed ({timer['failed']})"
            yield Finding(f"timer {name}", PROCESSES, what, f"journalctl -t {name} -n 50", looks=1)
        if timer["timer"] != "active":
            what = f"{name}.timer is {timer['timer']}"
            yield Finding(f"unit {name}.timer", PROCESSES, what, f"systemctl start {name}.timer")


def _of_the_web(report: Mapping[str, Any], names: Names) -> Iterator[Finding]:
    if "error" in report:
        what = f"the web processes do not say how queues and workers are: {report['error']}"
        yield Finding("web", PROCESSES, what, f"journalctl -t {names.prefix}gunicorn -n 50")


def _of_queues(report: Mapping[str, Any], names: Names, limits: Limits) -> Iterator[Finding]:
    for queue, count in (report["queues"] or {}).items():
        if count:
            what = f"the queue {queue} has not been empty, {count} wait"
            todo = f"{names.word}-celery inspect active; playbooks/status.yml"
            yield Finding(f"queue {queue}", WITHIN, what, todo, seconds=limits.queue_seconds)
    broker = report["broker"] or {}
    if broker.get("parked"):
        todo = f"{names.word}-manage task parked; {names.word}-manage task release ID"
        yield Finding("parked", WITHIN, f"{broker['parked']} tasks are parked", todo)
    if broker and broker["memory"] is not None and 100 * broker["memory"] >= NEARLY_FULL:
        what = f"the broker is {round(100 * broker['memory'])} % full, and then refuses new tasks"
        yield Finding("broker", WITHIN, what, "more workers, or more memory for it; playbooks/status.yml")


def _of_beat(report: Mapping[str, Any], names: Names) -> Iterator[Finding]:
    if late := (report["ledger"] or {}).get("beat_is_late"):
        what = f"beat is late with {', '.join(late)}"
        yield Finding("beat", WITHIN, what, f"journalctl -t {names.prefix}celery-beat -n 50")


def _of_the_certificate(report: Mapping[str, Any], names: Names, now: datetime) -> Iterator[Finding]:
    end, renewal = report["certificate"], report["renewal"]
    if not end:
        return
    until = datetime.fromisoformat(end)
    # One that renews itself may be short by nature: it is told when that fails.
    if until - now >= timedelta(days=ENDS_SOON_DAYS) or (renewal and not renewal["why_not"]):
        return
    why = f"; it was not renewed: {renewal['why_not']}" if renewal else ""
    unit = f"{names.prefix}nginx-acme"
    todo = f"systemctl start {unit}; journalctl -t {unit} -n 50" if renewal else "renew it, then playbooks/edge.yml"
    ends = "ends" if until > now else "has ended"
    yield Finding("certificate", HOST, f"the certificate {ends} at {until:%F %H:%M} UTC{why}", todo)


def _of_the_member(report: Mapping[str, Any], now: datetime) -> Iterator[Finding]:
    if not (end := report["member"]):
        return
    until = datetime.fromisoformat(end)
    if until - now < timedelta(days=ENDS_SOON_DAYS):
        what = f"the other hosts of the site know this one until {until:%F %H:%M} UTC"
        yield Finding("member", HOST, what, "site.yml makes another certificate for it")


def _of_the_database(report: Mapping[str, Any]) -> Iterator[Finding]:
    if not (database := report["database"]):
        return
    todo = "journalctl -t 'patroni@*'; patronictl -c /etc/patroni/*-main.yml list"
    if database["error"]:
        yield Finding("database", HOST, f"Patroni does not answer: {database['error']}", todo)
    elif not database["leads"]:
        yield Finding(
            "leader", HOST, "nobody leads the database, so nobody writes: are two of three hosts there?", todo
        )
    elif database["state"] not in site_databases.UP:
        yield Finding("copy", HOST, f"the database here is {database['state']}, so one copy is missing", todo)


def _of_backups(report: Mapping[str, Any], limits: Limits, now: datetime) -> Iterator[Finding]:
    backup = report["backup"]
    if not backup:
        return
    for name, unit in backup["units"].items():
        if unit["why_not"]:
            todo = f"journalctl -t {name} -n 50; systemctl start {name}"
            yield Finding(f"backup {name}", HOST, f"{name} has failed: {unit['why_not']}", todo)
    last = backup["units"][site_backup.DATABASE]["last"]
    if not last or now - datetime.fromisoformat(last["at"]) > timedelta(hours=limits.backup_hours):
        what = f"the last backup of the database that went well is of {last['at'] if last else 'no time'}"
        yield Finding("backup", HOST, what, "playbooks/backup.yml")
    archiver = backup["archiver"]
    if archiver and archiver["fails"]:
        what = f"what is written to the database does not reach the repository, {archiver['waiting']} files wait"
        yield Finding("archive", HOST, what, "playbooks/backup.yml, or the log of PostgreSQL, says why")
