"""How the site is on a host: what `playbooks/status.yml` shows."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.celeriac.site.plugins.module_utils import site_alerts, site_backup, site_databases
from ansible_collections.celeriac.site.plugins.module_utils.site_acme import timer_of, unit_of, why_not_renewed
from ansible_collections.celeriac.site.plugins.module_utils.site_checks import Socket, bearer
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import UnhealthyError
from ansible_collections.celeriac.site.plugins.module_utils.site_history import History
from ansible_collections.celeriac.site.plugins.module_utils.site_kinds import WEB
from ansible_collections.celeriac.site.plugins.module_utils.site_maintenance import in_maintenance
from ansible_collections.celeriac.site.plugins.module_utils.site_names import DEFAULT, Names
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Site
from ansible_collections.celeriac.site.plugins.module_utils.site_processes import RUNNING, Process, described, left_over
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Run, Systemd, iso_timestamp

PROPERTIES = (
    "ActiveState",
    "SubState",
    "ActiveEnterTimestamp",
    "NRestarts",
    "StatusText",
    "MemoryCurrent",
    "WatchdogTimestamp",
)
# What a person is told of the journal; runtime/celeriac/ledger/report.py says what each is.
OF_THE_JOURNAL = ("not_noted", "not_marked", "doubled", "never_ended")
# What celeriac.guarantees calls them, in words.
GUARANTEES = {
    "at_least_once": "at least once",
    "at_most_once": "at most once",
    "neither": "again with a lost worker, not with a lost process",
}
# So many tasks are named that are not like most.
OTHERS_SHOWN = 10
# Of a certificate that ends so soon, a person is told what to do.
ENDS_SOON_DAYS = 21
# Of a broker so full, in percent, a person is told what to do.
NEARLY_FULL = 80


class Report:
    """Reads a host, and changes nothing.

    Args:
        run: to run commands.
        site: what is known about it.
    """

    def __init__(self, run: Run, site: Site) -> None:
        self._run = run
        self._systemd = systemd = Systemd(run)
        self._site = site
        self._processes = described(systemd, site.processes, site.names)

    def read(self) -> dict[str, Any]:
        """Return all of it, as JSON has it; times are UTC, ISO 8601."""
        history = History(self._site.root)
        serving = history.serving()
        last = history.entries()[-1:]
        recorded = {process.name: process.recorded() for process in self._processes}
        candidates = [process.candidate() for process in self._processes]
        report: dict[str, Any] = {
            "site": self._site.names.site,
            "release": serving.release if serving else None,
            "since": serving.at if serving else None,
            "by": serving.by or None if serving else None,
            "commit": serving.commit or None if serving else None,
            "last": asdict(last[0]) if last else None,
            "back_to": history.back_to(),
            "maintenance": _maintenance(self._site.names),
            "units": {
                process.name: self._unit(recorded[process.name])
                for process in self._processes
                if recorded[process.name] and not process.timed
            },
            "timers": {process.name: self._timer(process) for process in self._processes if process.timed},
            "candidates": [unit for unit in candidates if unit],
            "drains": [
                drain for process in left_over(self._systemd, [], self._site.names) for drain in self._drains(process)
            ],
            "certificate": certificate_end(self._run, self._site.names.certificate),
            "renewal": self._renewal(),
            "member": certificate_end(self._run, self._site.names.member),
            "database": site_databases.report(),
            "backup": site_backup.report(self._run, self._systemd, self._site.names),
            "alerts": site_alerts.report(self._systemd, self._site.names),
            "disk": self._disk(),
        }
        report |= self._from_within()
        return report

    def _unit(self, unit: str) -> dict[str, Any]:
        shown = self._systemd.properties(unit, *PROPERTIES)
        memory = shown.get("MemoryCurrent", "")
        return {
            "unit": unit,
            "state": shown["ActiveState"],
            "since": iso_timestamp(shown["ActiveEnterTimestamp"]),
            "restarts": int(shown.get("NRestarts") or 0),
            "says": shown.get("StatusText", ""),
            # Its last sign of progress; None for a process that gives none.
            "heartbeat": iso_timestamp(shown.get("WatchdogTimestamp", "")),
            "memory_bytes": int(memory) if memory.isdigit() else None,
        }

    def _timer(self, process: Process) -> dict[str, Any]:
        """Return how the last run of a command ended, and when the next one begins."""
        timer = self._systemd.properties(process.timer, "ActiveState", "NextElapseUSecRealtime", "LastTriggerUSec")
        unit = process.recorded()
        shown = self._systemd.properties(unit, "ActiveState", "Result", "ExecMainExitTimestamp") if unit else {}
        return {
            "unit": unit or None,
            "timer": timer.get("ActiveState", ""),
            "runs": shown.get("ActiveState") in RUNNING,
            # Of the release that serves; None before its first run.
            "ended": iso_timestamp(shown.get("ExecMainExitTimestamp", "")),
            "failed": shown.get("Result") if shown.get("ActiveState") == "failed" else None,
            "last": iso_timestamp(timer.get("LastTriggerUSec", "")),
            "next": iso_timestamp(timer.get("NextElapseUSecRealtime", "")),
        }

    def _drains(self, process: Process) -> list[dict[str, Any]]:
        return [
            {
                "unit": unit,
                "since": f"{since:%FT%TZ}",
                "says": self._systemd.properties(unit, "StatusText").get("StatusText", ""),
            }
            for unit, since in process.draining().items()
        ]

    def _from_within(self) -> dict[str, Any]:
        """Return what the web process knows of queues, workers, broker and journal; of a host without one, nothing."""
        found: dict[str, Any] = {"workers": None, "queues": None, "broker": None, "ledger": None, "off": []}
        if not any(process.kind == WEB for process in self._processes if process.recorded()):
            return found
        client, headers = Socket(self._site.socket, self._site.domain), bearer(self._site)
        try:
            said = json.loads(client.expect(200, "GET", "/-/celeriac/workers", headers).body)
            found |= {"workers": said["workers"], "queues": said["queues"]}
            found |= {"broker": said.get("broker"), "off": said.get("off", [])}  # an older release says nothing of it
            ledger = client.request("GET", "/-/celeriac/ledger", headers)
            if ledger.status == 200:  # a project need not have one
                found["ledger"] = json.loads(ledger.body)
        except UnhealthyError as error:
            found["error"] = str(error)
        return found

    def _renewal(self) -> dict[str, Any] | None:
        """Return how the last renewal of the certificate ended, and when the next begins; None where there is none."""
        timer = self._systemd.properties(timer_of(self._site.names), "ActiveState", "NextElapseUSecRealtime")
        if timer.get("ActiveState") != "active":
            return None
        ended = self._systemd.properties(unit_of(self._site.names), "ExecMainExitTimestamp").get(
            "ExecMainExitTimestamp", ""
        )
        return {
            "why_not": why_not_renewed(self._systemd, self._site.names),
            "last": iso_timestamp(ended),
            "next": iso_timestamp(timer.get("NextElapseUSecRealtime", "")),
        }

    def _disk(self) -> dict[str, int]:
        usage = shutil.disk_usage(_there(self._site.root))
        return {
            "free_bytes": usage.free,
            "total_bytes": usage.total,
            "used_percent": round(100 * usage.used / usage.total),
        }


def file_systems(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Return how full the file systems are on which these files are, each once.

    Args:
        paths: folders; of one that is not there yet, the one that it would be in counts.
    """
    found: dict[int, dict[str, Any]] = {}
    for path in map(_there, paths):
        usage, inodes = shutil.disk_usage(path), os.statvfs(path)
        found.setdefault(
            path.stat().st_dev,
            {
                "path": str(path),
                "free_bytes": usage.free,
                # As df(1) counts: what is kept for root is nobody's.
                "used_percent": _percent(usage.used, usage.used + usage.free),
                # Some file systems have no number of them.
                "inodes_percent": _percent(inodes.f_files - inodes.f_favail, inodes.f_files),
            },
        )
    return [*found.values()]


def _percent(part: int, whole: int) -> int:
    return round(100 * part / whole) if whole else 0


def _there(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def _maintenance(names: Names) -> dict[str, Any] | None:
    """Return since when, and by whom, the site is in maintenance, without what opens it; None where it is not."""
    now = in_maintenance(names)
    return {"since": now.since, "by": now.by, "paused": now.paused, "why": now.why} if now else None


def certificate_end(run: Run, file: Path) -> str | None:
    """Return when a certificate ends (UTC, ISO 8601), None where there is none.

    Args:
        run: to run openssl.
        file: the certificate, PEM.
    """
    _, said, _ = run(["openssl", "x509", "-in", str(file), "-noout", "-enddate", "-dateopt", "iso_8601"])
    found = re.match(r"notAfter=(\S+) (\S+Z)", said)
    return f"{found[1]}T{found[2]}" if found else None


def as_text(report: dict[str, Any]) -> list[str]:
    """Return a report as a person reads it, a line each."""
    if not report["release"]:
        return ["No release has passed on this host."]
    since = datetime.fromisoformat(report["since"])
    commit = f", commit {report['commit']}" if report["commit"] else ""
    lines = [f"release {report['release']}, since {since:%F %T} UTC, by {report['by'] or 'nobody known'}{commit}"]
    last = report["last"]
    if last["outcome"] != "serving":
        first_line = last["reason"].partition("\n")[0]
        lines.append(f"last {last['kind']}: {last['release']} was undone at {last['at']}: {first_line}")
    if now := report["maintenance"]:
        processes = "are paused" if now["paused"] else "run"
        lines.append(
            f"maintenance since {now['since']}, by {now['by']}: people are answered 503, workers and beat {processes}"
        )
        lines += [now["why"]] if now["why"] else []
    for name, unit in report["units"].items():
        restarts = f", {unit['restarts']} restarts" if unit["restarts"] else ""
        heartbeat = f", heartbeat {unit['heartbeat']}" if unit["heartbeat"] else ""
        says = f", {unit['says']}" if unit["says"] else ""
        from_then = f" since {unit['since']}" if unit["since"] else ""  # else it never ran in this boot
        lines.append(f"{name}: {unit['state']}{from_then}{restarts}{heartbeat}{says}")
    lines += [_of_a_timer(name, found) for name, found in report["timers"].items()]
    lines += [f"drains: {drain['unit']} since {drain['since']}, {drain['says']}" for drain in report["drains"]]
    if report["candidates"]:
        lines.append(f"a switch has not ended: {', '.join(report['candidates'])}; run the deploy again")
    for name, tasks in (report["workers"] or {}).items():
        lines.append(f"worker {name}: {tasks['active']} tasks run, {tasks['executed']} executed")
    lines += of_the_tasks(report["workers"] or {})
    for name, waiting in (report["queues"] or {}).items():
        lines.append(f"queue {name}: {waiting} waiting")
    lines += _of_the_broker(report["broker"] or {}, Names(report.get("site", DEFAULT)))
    lines += [f"off is the {each}" for each in report["off"]]
    if ledger := report["ledger"]:
        lines.append("journal: " + ", ".join(f"{ledger[name]} {name.replace('_', ' ')}" for name in OF_THE_JOURNAL))
        lines += [f"beat is late with {name}" for name in ledger["beat_is_late"]]
    if "error" in report:
        lines.append(f"queues and workers are not known: {report['error']}")
    lines += _of_the_certificate(report["certificate"], report["renewal"])
    lines += _of_the_member(report["member"])
    lines += site_databases.as_text(report["database"])
    lines += site_backup.as_text(report["backup"])
    lines += site_alerts.as_text(report["alerts"])
    lines.append(f"disk: {report['disk']['used_percent']} % used, {report['disk']['free_bytes'] // 2**20} MB free")
    lines.append(f"back to: {', '.join(report['back_to']) or 'none'}")
    return lines


def _of_a_timer(name: str, found: dict[str, Any]) -> str:
    """Return how the last run of a command ended, what is to be done where it failed, and when the next begins."""
    if found["runs"]:
        state = "runs now"
    elif found["failed"]:
        state = f"FAILED at {found['ended']} ({found['failed']}; journalctl -t {name})"
    else:
        state = f"last run ended at {found['ended']}" if found["ended"] else "did not run in this release yet"
    then = f"next run at {found['next']}" if found["timer"] == "active" else f"its timer is {found['timer']}"
    return f"{name}: {state}, {then}"


def _of_the_certificate(end: str | None, renewal: dict[str, Any] | None) -> list[str]:
    """Return until when the certificate lasts, and what is to be done where that is not long or its renewal fails."""
    if not end:
        return []
    until = datetime.fromisoformat(end)
    renews = ", renews itself" if renewal else ""
    lines = [f"certificate: until {until:%F %T} UTC{renews}"]
    if renewal and renewal["why_not"]:
        lines.append(
            f"the certificate was not renewed at {renewal['last']}: {renewal['why_not']} Next try: {renewal['next']}"
        )
    elif not renewal and until - datetime.now(UTC) < timedelta(days=ENDS_SOON_DAYS):
        lines.append("the certificate ends soon, or has ended: renew it, and run playbooks/edge.yml")
    return lines


def _of_the_member(end: str | None) -> list[str]:
    """Return until when the other hosts of the site know this one, and what is to be done where that is not long."""
    if not end:
        return []
    until = datetime.fromisoformat(end)
    soon = until - datetime.now(UTC) < timedelta(days=ENDS_SOON_DAYS)
    return [f"known to the other hosts until {until:%F %T} UTC{': run site.yml before' if soon else ''}"]


def of_the_tasks(workers: dict[str, Any]) -> list[str]:
    """Return which guarantee how many tasks have, and who says so of those that are not like most.

    The workers of a release have the same tasks; an older one says nothing of it.

    Args:
        workers: what each says of itself, by its name.
    """
    lines = []
    for found in (tasks.get("guarantees") for tasks in workers.values()):
        if not found or not found["counts"]:
            continue
        line = "tasks: " + ", ".join(f"{count} {GUARANTEES[name]}" for name, count in found["counts"].items())
        others = [f"{name} ({GUARANTEES[each]}: {said_by})" for name, (each, said_by) in found["others"].items()]
        line += f"; {', '.join(others[:OTHERS_SHOWN])}" if others else ""
        line += f" and {len(others) - OTHERS_SHOWN} more" if len(others) > OTHERS_SHOWN else ""
        if line not in lines:
            lines.append(line)
    return lines


def _of_the_broker(broker: dict[str, Any], names: Names) -> list[str]:
    """Return what a person is told of the broker, and a line more for each thing that is to be done."""
    if not broker:
        return []
    percent, parked = None if broker["memory"] is None else round(100 * broker["memory"]), broker["parked"]
    lines = [f"broker: {broker['transport']}{'' if percent is None else f', {percent} % full'}, {parked} parked"]
    if percent is not None and percent >= NEARLY_FULL:
        rabbitmq = "rabbitmq_memory_mb, or more room on the disk"
        more = rabbitmq if broker["transport"] == "amqp" else "redis_maxmemory_mb"
        lines.append(f"the broker is nearly full, and then refuses new tasks: more workers, or more {more}")
    if parked:
        lines.append(
            f"parked tasks run no more: `{names.word}-manage task parked` says why, "
            f"`{names.word}-manage task release ID` runs one"
        )
    return lines + _of_the_broker_before(broker.get("before"))


def _of_the_broker_before(left: dict[str, int] | None) -> list[str]:
    """Return what a person is told of the broker before; nothing where there is none."""
    if left is None:
        return []
    if left:
        return ["broker before: to be moved " + ", ".join(f"{queue} {count}" for queue, count in sorted(left.items()))]
    return ["broker before: nothing is left there; when no old worker drains, take site_broker_before away"]
