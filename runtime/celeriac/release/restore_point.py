"""A name for the moment before migrations, to which the database can be brought back from its backups.

PostgreSQL writes it into its log (a restore point); the segment of the log that has it is then in the repository, or it
is said why not. It costs less than a second, whatever the size of the database. Its price is paid by whoever goes back.
"""

import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management import CommandError
from django.db import DatabaseError, connection

# Its name, in the environment; none where nothing keeps the log.
NAME = "CELERIAC_RESTORE_POINT"
# How long the log may take into the repository; by itself it takes half a second.
SECONDS = 60
# The server tries a segment again, a second later, when its program failed.
FAILURES = 2
PAUSE = 0.1
# What was written to each table since the server counts.
WRITTEN = """
SELECT schemaname || '.' || relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables
"""
ARCHIVER = "SELECT coalesce(last_archived_wal, ''), failed_count FROM pg_stat_archiver"


def is_wanted() -> bool:
    """Say whether there is to be one where something is migrated."""
    return bool(os.environ.get(NAME)) and connection.vendor == "postgresql"


def make(plan: Sequence[tuple[Any, bool]], stuck: Sequence[str]) -> str:
    """Make the point ``CELERIAC_RESTORE_POINT``, once, and note it in ``CELERIAC_RESTORE_POINT_FILE``.

    Args:
        plan: what is to be migrated, as an executor has it.
        stuck: those of it that cannot be taken back, a line each.

    Returns:
        What is to be said of it, empty for nothing.

    Raises:
        CommandError: it is not in the repository, there is no other way back, and ``CELERIAC_WAY_BACK`` says that there
            has to be one.
    """
    if not plan or not is_wanted():
        return ""
    name = os.environ[NAME]
    file = Path(os.environ["CELERIAC_RESTORE_POINT_FILE"])
    if file.exists() and json.loads(file.read_text())["name"] == name:
        return ""
    with connection.cursor() as cursor:
        cursor.execute(WRITTEN)
        written = {table: counts for table, *counts in cursor.fetchall()}
    point = {
        "name": name,
        "at": f"{datetime.now(UTC):%FT%TZ}",
        "database": connection.settings_dict["NAME"],
        "migrations": [f"{migration.app_label}.{migration.name}" for migration, _ in plan],
        "written": written,
    }
    try:
        segment = _made(name)
    except DatabaseError as error:
        # On a server of somebody else's, which has backups of its own or none.
        return f"no restore point ({' '.join(str(error).split())})"
    why = _not_archived(segment)
    if why and stuck and os.environ.get("CELERIAC_WAY_BACK"):
        raise CommandError(
            "\n".join(
                [
                    f"there would be no way back: {why}, and these migrations cannot be taken back:",
                    *stuck,
                    "Nothing was migrated. Ways out:",
                    "  let backups work again: `playbooks/backup.yml` says what is wrong;",
                    "  `-e site_migrate=unguarded`: without a way back.",
                ]
            )
        )
    _write(file, {**point, "segment": segment, "why": why})
    return f"behind the restore point {name}" + (f", but {why}" if why else "")


def _made(name: str) -> str:
    """Make the point; return the segment of the log that has it, which is full now."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_walfile_name(pg_create_restore_point(%s))", [name])
        segment: str = cursor.fetchone()[0]
        cursor.execute("SELECT pg_switch_wal()")
    return segment


def _not_archived(segment: str) -> str:
    """Wait until the repository has all up to a segment; return why it has not, empty where it has."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW archive_mode")
        if cursor.fetchone()[0] == "off":
            return "what is written to the database goes to no repository"
    until, failures = time.monotonic() + SECONDS, _archiver()[1]
    while time.monotonic() < until:
        last, failed = _archiver()
        # Of the same timeline, or a younger one: both sort as texts.
        if last[:24] >= segment:
            return ""
        if failed >= failures + FAILURES:
            return "what is written to the database does not reach the repository of its backups"
        time.sleep(PAUSE)
    return f"what is written to the database has not reached the repository of its backups in {SECONDS} s"


def _archiver() -> tuple[str, int]:
    """Return the last segment that is in the repository, and how often one was refused."""
    with connection.cursor() as cursor:
        cursor.execute(ARCHIVER)
        last, failed = cursor.fetchone()
    return str(last), int(failed)


def _write(file: Path, point: dict[str, Any]) -> None:
    """Write the note, so that it outlives whatever the migrations do to this process, and the host."""
    with file.open("w") as stream:
        json.dump(point, stream)
        stream.flush()
        os.fsync(stream.fileno())
