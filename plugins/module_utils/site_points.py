"""The restore points that releases have made in front of their migrations (`celeriac/release/restore_point.py`).

A release notes its own in its folder, which goes with it when it is undone, and its migrations stay. So each note is
taken to `<root>/restore-points.json`, the oldest first; a restore that goes back behind a point forgets it
(`roles/backup/files/site_backup.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ansible_collections.celeriac.site.plugins.module_utils.site_files import write_atomically
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Run

NOTE = "restore-point.json"
# Far more than anybody goes back, and read whole.
KEPT = 100
# What a person reads of a loss.
TABLES_SHOWN = 8
ASKED = """
SELECT json_build_object(
  'last', coalesce((SELECT last_archived_wal FROM pg_stat_archiver), ''),
  'written', coalesce((SELECT json_object_agg(schemaname || '.' || relname, json_build_array(n_tup_ins, n_tup_upd,
    n_tup_del)) FROM pg_stat_user_tables), '{}'))
"""

Written = Mapping[str, list[int]]  # rows that were added, changed and deleted, by table


@dataclass(frozen=True)
class Point:
    """A moment of the database that has a name.

    Attributes:
        name: its name.
        at: when it was (UTC, ISO 8601).
        database: the database that was migrated.
        migrations: what was applied behind it, `app.name` each.
        written: what had been written to each table until then, by the server's counters.
        segment: the file of the database's log that has it.
        why: why that was not in the repository at once, empty where it was.
    """

    name: str
    at: str
    database: str
    migrations: list[str]
    written: dict[str, list[int]] = field(repr=False)
    segment: str
    why: str = ""


class Points:
    """The restore points of a host.

    Args:
        root: the folder of the site.
    """

    def __init__(self, root: Path) -> None:
        self._file = root / "restore-points.json"

    def all(self) -> list[Point]:
        """Return them, the oldest first."""
        try:
            return [Point(**each) for each in json.loads(self._file.read_text())]
        except (OSError, ValueError, TypeError):
            return []

    def take(self, release: Path) -> Point | None:
        """Take the note of a release to the others; return its point where it is new."""
        try:
            found = Point(**json.loads((release / NOTE).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        known = self.all()
        if any(each.name == found.name for each in known):
            return None
        kept = [asdict(each) for each in [*known, found][-KEPT:]]
        # It says how much is written to which table: for root alone.
        write_atomically(self._file, json.dumps(kept).encode(), 0o600)
        return found

    def before(self, migrations: Iterable[str]) -> Point | None:
        """Return the point behind which all of these were applied; None where one of them was not applied behind any.

        One that was taken back and applied again counts as it was applied last.
        """
        known = self.all()
        # By their place: the name of a point begins with that of its release.
        places = [
            max((place for place, point in enumerate(known) if name in point.migrations), default=-1)
            for name in migrations
        ]
        return known[min(places)] if places and min(places) >= 0 else None


def loss(run: Run, point: Point) -> str:
    """Return what is lost on the way back to a point, for people; or why there is no way.

    Args:
        run: to run psql.
        point: where to.

    Raises:
        LookupError: it is not in the repository; the message says why.
    """
    words = ["runuser", "--user=postgres", "--", "psql", "--no-psqlrc", "--tuples-only", "--no-align", point.database]
    code, output, error = run([*words, f"--command={ASKED}"])
    if code != 0:
        raise LookupError(f"the database does not answer: {' '.join(error.split())}")
    now = json.loads(output)
    if now["last"][:24] < point.segment:
        raise LookupError("what was written to the database until then is not in the repository")
    minutes = (datetime.now(UTC) - datetime.fromisoformat(point.at)).total_seconds() / 60
    lines = list(_of_tables(point.written, now["written"]))
    more = [f"and {len(lines) - TABLES_SHOWN} tables more"] if len(lines) > TABLES_SHOWN else []
    return "\n".join(
        [
            f"  all that was written to the database in {max(1, round(minutes))} minutes, since {point.at}:",
            *(f"    {line}" for line in [*lines[:TABLES_SHOWN], *more] or ["not a row, by the server's counters"]),
        ]
    )


def _of_tables(before: Written, now: Written) -> Iterator[str]:
    """Yield what was written to each table since, that with the most first. What a migration wrote is among it."""
    rows = {}
    for table, counts in now.items():
        old = before.get(table, [0, 0, 0])
        # A server that was killed has begun to count anew.
        rows[table] = [new - then if new >= then else new for new, then in zip(counts, old, strict=True)]
    for table, (added, changed, deleted) in sorted(rows.items(), key=lambda each: -sum(each[1])):
        if added or changed or deleted:
            yield f"{table.removeprefix('public.')}: {added} rows added, {changed} changed, {deleted} deleted"
