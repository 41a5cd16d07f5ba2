"""Which release a rollback leads to, from what a host remembers."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.celeriac.site.plugins.module_utils.site_history import REASON_CHARACTERS, History

A, B, C, D = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc", "dddddddddddd"


@pytest.fixture
def history(tmp_path: Path) -> History:
    """A host that knows nothing yet."""
    return History(tmp_path)


def after(history: History, *events: tuple[str, str, str]) -> list[str]:
    """The releases one can go back through, after these (kind, release, outcome)."""
    for kind, release, outcome in events:
        history.append(release, outcome, kind, by="me", commit="")
    return history.passed()


def deployed(release: str) -> tuple[str, str, str]:
    """A deploy that passed."""
    return ("deploy", release, "serving")


def back(release: str) -> tuple[str, str, str]:
    """A rollback that passed."""
    return ("rollback", release, "serving")


def test_a_new_host_has_nothing(history: History) -> None:
    assert history.passed() == []
    assert history.serving() is None


def test_deploys_line_up(history: History) -> None:
    assert after(history, deployed(A), deployed(B), deployed(C)) == [A, B, C]


def test_a_release_that_was_undone_is_never_gone_back_to(history: History) -> None:
    assert after(history, deployed(A), ("deploy", B, "undone"), deployed(C)) == [A, C]


def test_a_release_that_failed_after_it_had_passed_is_not_gone_back_to(history: History) -> None:
    assert after(history, deployed(A), deployed(B), deployed(C), ("deploy", A, "undone")) == [B, C]


def test_a_second_rollback_leads_further_back(history: History) -> None:
    assert after(history, deployed(A), deployed(B), deployed(C), back(B)) == [A, B]
    assert after(history, back(A)) == [A]


def test_after_a_rollback_a_deploy_goes_on_from_there(history: History) -> None:
    assert after(history, deployed(A), deployed(B), back(A), deployed(C)) == [A, C]


def test_a_release_deployed_again_is_the_youngest(history: History) -> None:
    assert after(history, deployed(A), deployed(B), deployed(A)) == [B, A]


def test_a_change_of_choices_that_did_not_pass_takes_nothing_away(history: History) -> None:
    assert after(history, deployed(A), deployed(B), ("deploy", B, "kept")) == [A, B]


def test_what_failed_last_does_not_serve(history: History) -> None:
    after(history, deployed(A), ("deploy", B, "undone"))

    serving = history.serving()
    assert serving
    assert (serving.release, serving.by) == (A, "me")


def test_a_line_cut_off_by_a_power_cut_costs_no_more_than_itself(history: History, tmp_path: Path) -> None:
    after(history, deployed(A), deployed(B))
    file = tmp_path / "history.jsonl"
    file.write_text(file.read_text()[:-20])

    assert after(history, deployed(C)) == [A, C]


def test_a_long_reason_keeps_its_end(history: History) -> None:
    history.append(A, "undone", "deploy", by="", commit="", reason="x" * 10_000 + "the error")

    reason = history.entries()[-1].reason
    assert len(reason) == REASON_CHARACTERS
    assert reason.endswith("the error")


def test_only_root_reads_what_a_project_printed(history: History, tmp_path: Path) -> None:
    after(history, deployed(D))

    assert (tmp_path / "history.jsonl").stat().st_mode & 0o777 == 0o600


def test_only_releases_that_are_still_whole_can_be_gone_back_to(history: History, tmp_path: Path) -> None:
    after(history, deployed(A), deployed(B), deployed(C), deployed(D))
    for release in (A, C, D):
        (tmp_path / "releases" / release).mkdir(parents=True)
    for release in (A, D):
        (tmp_path / "releases" / release / "release.json").touch()

    assert history.back_to() == [A]
