"""Which restore point leads back over which migrations, and what is said of the loss."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from ansible_collections.celeriac.site.plugins.module_utils.site_points import NOTE, Point, Points, loss


def point(number: int, *migrations: str) -> Point:
    """The point of a release."""
    written = {"public.shop_order": [number * 10, 0, 0]}
    return Point(f"before-{number}", f"2027-01-31T0{number}:00:00Z", "site", [*migrations], written, f"{number:024}")


@pytest.fixture
def points(tmp_path: Path) -> Points:
    """Those of a host, on which `a.2` was taken back and applied again."""
    found = Points(tmp_path)
    for number, migrations in enumerate((("a.1",), ("a.2", "b.1"), ("a.3",), ("a.2",)), 1):
        (tmp_path / NOTE).write_text(json.dumps(asdict(point(number, *migrations))))
        assert found.take(tmp_path)
    return found


def test_the_point_is_the_one_before_the_last_time_that_the_first_of_them_was_applied(points: Points) -> None:
    for migrations, name in ((["a.2"], "before-4"), (["a.2", "a.3"], "before-3"), (["b.1", "a.2"], "before-2")):
        found = points.before(migrations)
        assert found
        assert found.name == name


def test_over_a_migration_without_a_point_none_leads(points: Points) -> None:
    assert points.before(["a.2", "c.1"]) is None
    assert points.before([]) is None


def test_a_note_is_taken_once(points: Points, tmp_path: Path) -> None:
    assert points.take(tmp_path) is None
    assert len(points.all()) == 4
    assert points.take(tmp_path / "not-there") is None


def test_a_loss_is_said_by_table_and_one_that_is_not_in_the_repository_is_no_way() -> None:
    answer = {"last": f"{5:024}", "written": {"public.shop_order": [37, 2, 0], "public.auth_user": [0, 0, 0]}}
    said = loss(lambda _: (0, json.dumps(answer), ""), point(3))
    assert "since 2027-01-31T03:00:00Z:\n    shop_order: 7 rows added, 2 changed, 0 deleted" in said
    assert "auth_user" not in said
    with pytest.raises(LookupError, match="not in the repository"):
        loss(lambda _: (0, json.dumps(answer), ""), point(6))
