"""What a host remembers of its releases: which passed, which failed and why.

One JSON object a line, in `<root>/history.jsonl`; the last line is the youngest.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

# A reason holds the journal of what failed; the file is read whole.
REASON_CHARACTERS = 4000
LINES_KEPT = 500


@dataclass(frozen=True)
class Entry:
    """One deploy or rollback that has ended.

    Attributes:
        release: which release.
        outcome: "serving" when it passed, "undone" when it did not, "kept" when it served before and
            goes on in what it had been, because a change of its choices did not pass.
        kind: "deploy" or "rollback".
        at: when it ended, UTC, as ISO 8601.
        by: who ran it.
        commit: what the release was made from, empty where that is not known.
        reason: what was wrong, empty for one that passed.
    """

    release: str
    outcome: str
    kind: str
    at: str
    by: str = ""
    commit: str = ""
    reason: str = ""


class History:
    """The entries of a host, the oldest first."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = root / "history.jsonl"

    def entries(self) -> list[Entry]:
        """Return all entries. A line that a power cut left half-written is no entry."""
        if not self._file.exists():
            return []
        found = []
        for line in self._file.read_text().splitlines():
            try:
                found.append(Entry(**json.loads(line)))
            except (ValueError, TypeError):
                continue
        return found

    def append(self, release: str, outcome: str, kind: str, *, by: str, commit: str, reason: str = "") -> None:
        """Note how a deploy or a rollback ended, and bring it to the disk."""
        now = f"{datetime.now(UTC):%FT%TZ}"
        entry = Entry(release, outcome, kind, now, by, commit, reason[-REASON_CHARACTERS:])
        lines = [json.dumps(asdict(old)) for old in self.entries()[1 - LINES_KEPT :]]
        temporary = self._file.with_suffix(".new")
        with temporary.open("w") as stream:
            # A reason may hold what the project printed: for root alone.
            os.fchmod(stream.fileno(), 0o600)
            stream.write("\n".join([*lines, json.dumps(asdict(entry))]) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self._file)

    def serving(self) -> Entry | None:
        """Return the entry of the release that serves, None before the first."""
        line = self.passed()
        entries = [entry for entry in self.entries() if entry.outcome == "serving" and entry.release in line[-1:]]
        return entries[-1] if entries else None

    def passed(self) -> list[str]:
        """Return the releases one can go back through, the serving one last.

        A deploy adds its release at the end. A rollback takes away what it left behind: the next
        rollback leads further back, not to and fro. What was undone is not there.
        """
        line: list[str] = []
        for entry in self.entries():
            if entry.outcome == "undone":
                line = [release for release in line if release != entry.release]
            elif entry.kind == "rollback" and entry.outcome == "serving" and entry.release in line:
                del line[line.index(entry.release) + 1 :]
            elif entry.outcome == "serving":
                line = [*(release for release in line if release != entry.release), entry.release]
        return line

    def back_to(self) -> list[str]:
        """Return the releases that one can go back to and that are still whole, newest first."""
        notes = {release: self._root / "releases" / release / "release.json" for release in self.passed()[:-1]}
        return [release for release, note in reversed(notes.items()) if note.exists()]
