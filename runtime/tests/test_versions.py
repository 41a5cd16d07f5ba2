"""What is off with an older library is known by its name."""

from pathlib import Path

import pytest
from celery.apps import worker

from celeriac import versions
from celeriac.versions import FEATURES, off

DOCUMENT = Path(__file__).parents[2] / "docs/versions.md"
OLD = ["5.4.0", "4.9.1", "5.4.0rc2", "5.4"]
NEW = ["5.5.0", "5.5.0b1", "5.10.1", "6.0", "5.7.0"]


@pytest.mark.parametrize("number", OLD)
def test_it_is_off_before_the_version_that_has_it(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    monkeypatch.setattr(versions, "version", lambda _: number)
    (said,) = off()
    assert said.startswith(f"soft shutdown: celery {number} has none, ")


@pytest.mark.parametrize("number", NEW)
def test_it_is_not_off_since_then(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    monkeypatch.setattr(versions, "version", lambda _: number)
    assert off() == []


def test_what_is_said_is_true_of_the_celery_that_is_here() -> None:
    assert bool(off()) == (not hasattr(worker, "on_cold_shutdown"))


def test_the_document_has_the_same_table() -> None:
    rows = [f"| {each.name} | {each.library} {'.'.join(map(str, each.since))} | {each.instead} |" for each in FEATURES]
    assert [line for line in DOCUMENT.read_text().split("| off |")[1].splitlines()[2:] if line] == rows
