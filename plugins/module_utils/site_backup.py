"""What is asked of the units that back the site up (`roles/backup`), and what they say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.celeriac.site.plugins.module_utils.site_errors import BackupError, SystemdError
from ansible_collections.celeriac.site.plugins.module_utils.site_files import write_atomically
from ansible_collections.celeriac.site.plugins.module_utils.site_names import DEFAULT, Names
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Run, Systemd, iso_timestamp

PROGRAM = Path("/usr/local/sbin/site-backup")
DATABASE, FILES, VERIFY, VERIFY_FILES = "backup-database", "backup-files", "backup-verify", "backup-verify-files"
UNITS = (DATABASE, FILES, VERIFY, VERIFY_FILES)
RESTORE = "backup-restore"
STATE = Path("/var/lib")
# What the program reads, and what it answers; roles/backup/files/site_backup.py.
LABEL, REQUEST, ANSWER = Path("/run/backup-label"), Path("/run/backup-request.json"), Path("/run/backup-answer.json")
# Its status where the repository has the backups of another database: a host that was made anew, and not restored yet.
WHOSE = "3"
ARCHIVER = """
SELECT json_build_object(
  'last', to_char(last_archived_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
  'failed', to_char(last_failed_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
  'fails', coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false),
  'waiting', (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'))
FROM pg_stat_archiver
"""


def are_made(names: Names) -> bool:
    """Say whether a host makes backups of a site.

    Those of its database are of all that PostgreSQL has: on a host one site alone makes them.
    """
    return names.site == DEFAULT and PROGRAM.exists()


def last_of(unit: str) -> dict[str, Any] | None:
    """Return what a unit has noted when it last went well; None where it never has."""
    try:
        found: dict[str, Any] = json.loads((STATE / unit / "last.json").read_text())
    except (OSError, ValueError):
        return None
    return found


def why_not(systemd: Systemd, unit: str) -> str:
    """Return why the last run of a unit did not go well, in its own words; empty where it did.

    Args:
        systemd: to ask.
        unit: its name.
    """
    result = systemd.properties(f"{unit}.service", "Result").get("Result", "success")
    if result == "success":
        return ""
    said = systemd.said_by(unit)
    if result == "exit-code" and said:
        return said
    hint = ": the repository is away, or it takes longer than backup_timeout_seconds" if result == "timeout" else ""
    return f"{unit} has ended with {result}{hint}."


def start(systemd: Systemd, unit: str) -> None:
    """Let a unit run, and wait until it has ended.

    Args:
        systemd: to do it.
        unit: its name.

    Raises:
        BackupError: it did not go well; the message says why. `whose` says whether only for another database's sake.
    """
    try:
        systemd.call("start", f"{unit}.service")
    except SystemdError as error:
        code = systemd.properties(f"{unit}.service", "ExecMainStatus").get("ExecMainStatus", "")
        raise BackupError(why_not(systemd, unit) or str(error), whose=code == WHOSE) from error


def restore(systemd: Systemd, wanted: Mapping[str, Any]) -> None:
    """Let the host restore something, or say what that would be.

    Args:
        systemd: to do it.
        wanted: as `restore` of the program has it.

    Raises:
        BackupError: all is as before; or the message says what is not.
    """
    write_atomically(REQUEST, json.dumps({"go": True, **wanted}).encode(), 0o600)
    start(systemd, RESTORE)


def take_back(systemd: Systemd) -> None:
    """Let a restore for a rollback, one that runs or has ended, not have been.

    Args:
        systemd: to do it.

    Raises:
        BackupError: the database from before is not in its place; the message says why.
    """
    systemd.call("stop", f"{RESTORE}.service")
    restore(systemd, {"back": True})


def report(run: Run, systemd: Systemd, names: Names) -> dict[str, Any] | None:
    """Return how the backups are, for the status; None where none are made."""
    if not are_made(names):
        return None
    return {"units": {unit: _of_unit(systemd, unit) for unit in UNITS}, "archiver": _archiver(run)}


def _of_unit(systemd: Systemd, unit: str) -> dict[str, Any]:
    ended = systemd.properties(f"{unit}.service", "ExecMainExitTimestamp").get("ExecMainExitTimestamp", "")
    following = systemd.properties(f"{unit}.timer", "NextElapseUSecRealtime").get("NextElapseUSecRealtime", "")
    return {
        "last": last_of(unit),
        "why_not": why_not(systemd, unit),
        "ended": iso_timestamp(ended),
        "next": iso_timestamp(following),
    }


def _archiver(run: Run) -> dict[str, Any] | None:
    words = ["runuser", "--user=postgres", "--", "psql", "--no-psqlrc", "--tuples-only", "--no-align", "postgres"]
    code, output, _ = run([*words, f"--command={ARCHIVER}"])
    found: dict[str, Any] | None = json.loads(output) if code == 0 and output.strip() else None
    return found


def as_text(backup: dict[str, Any] | None) -> list[str]:
    """Return how the backups are as a person reads it, a line each; nothing where none are made."""
    if not backup:
        return []
    units, archiver = backup["units"], backup["archiver"]
    database, files, verified = (units[name]["last"] for name in (DATABASE, FILES, VERIFY))
    of_files = f", data folders {_when(files)}" if files and files["snapshot"] else ""
    until = f", all that was written until {_time(archiver['last'])}" if archiver and archiver["last"] else ""
    lines = [f"backup: database {_when(database)}{until}{of_files}"]
    if verified:
        lines.append(
            f"backup: restored for a trial {_when(verified)}: {verified['rows']} rows in {verified['tables']} tables"
        )
    elif not units[VERIFY]["why_not"]:
        lines.append(f"no backup was restored for a trial yet; next: {_time(units[VERIFY]['next'])}")
    if archiver and archiver["fails"]:
        since = _time(archiver["last"] or archiver["failed"])
        lines.append(
            f"what is written to the database does not reach the repository since {since}, "
            f"{archiver['waiting']} files wait: playbooks/backup.yml, or the log of PostgreSQL, says why"
        )
    for name, unit in units.items():
        if unit["why_not"]:
            ended, following = _time(unit["ended"]), _time(unit["next"])
            lines.append(f"{name} has failed at {ended}: {unit['why_not']} Next try: {following}")
    return lines


def _when(last: dict[str, Any] | None) -> str:
    return _time(last["at"]) if last else "never"


def _time(text: str | None) -> str:
    return text.replace("T", " ").replace("Z", " UTC") if text else "never"
