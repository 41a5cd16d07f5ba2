"""The line that beat and a health check agree on."""

import pytest
from beats import parse_status

from celeriac.beat.status import BeatStatus, Standby, format_status


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (
            BeatStatus(last_tick=1790000000, entries=4, next_due=3),
            "last tick 1790000000 (2026-09-21T14:13:20Z); 4 entries; next due in 3 s",
        ),
        (
            BeatStatus(last_tick=1790000000, entries=0, next_due=None),
            "last tick 1790000000 (2026-09-21T14:13:20Z); 0 entries; nothing due",
        ),
        (
            BeatStatus(last_tick=1790000000, entries=4, next_due=3, faulty=2, named=("a\nb", "c")),
            "last tick 1790000000 (2026-09-21T14:13:20Z); 4 entries; next due in 3 s"
            r'; 2 faulty: ["a\nb", "c"]',
        ),
        (Standby.ANOTHER_LEADS, "standby, another beat holds the lease"),
        (Standby.NO_DATABASE, "standby, the database does not answer"),
    ],
)
def test_a_status_is_the_documented_line_and_back(status: BeatStatus | Standby, line: str) -> None:
    assert format_status(status) == line
    assert parse_status(f"{line}\n") == status


@pytest.mark.parametrize("text", ["", "starting", "standby", "last tick never", "last tick 1790000000"])
def test_what_is_no_status_of_a_ticking_beat_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the status"):
        parse_status(text)
