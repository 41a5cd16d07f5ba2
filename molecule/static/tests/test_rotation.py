"""Which secrets can be made anew, and what is left of them until they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.celeriac.site.plugins.plugin_utils.rotation import (
    FALLBACK,
    KEPT,
    ROTATED,
    RotationError,
    chosen,
    rotate,
)

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an inventory that has been run once."""
    for name in (*ROTATED, *KEPT):
        (tmp_path / name).write_text(f"{name} of before\n")
    (tmp_path / "of_a_person").write_text("mine")
    return tmp_path


def left(folder: Path) -> set[str]:
    """Return the names of the files that are still there."""
    return {file.name for file in folder.iterdir()}


def test_each_secret_that_is_made_here_is_one_of_them() -> None:
    text = (ROOT / "playbooks/group_vars/all/secrets.yml").read_text()
    made = set(re.findall(r"'ansible\.builtin\.password', site_secrets_dir ~ '/(\w+)'", text))
    assert made | {"member_authority.pem"} == {*ROTATED, *KEPT}


def test_all_of_them_go_but_those_that_stay(folder: Path) -> None:
    names = chosen(folder, "all", ["vault_flower_password", "vault_nothing"])
    rotate(folder, names, signed_holds=True)
    assert left(folder) == {*KEPT, "of_a_person", "flower_password", FALLBACK}
    assert (folder / FALLBACK).read_text() == "secret_key of before\n"


def test_one_that_is_named_goes_alone(folder: Path) -> None:
    rotate(folder, chosen(folder, " redis_password, metrics_token,", []), signed_holds=True)
    assert left(folder) == {*ROTATED, *KEPT, "of_a_person"} - {"redis_password", "metrics_token"}


def test_a_key_that_was_stolen_holds_no_longer(folder: Path) -> None:
    (folder / FALLBACK).write_text("older")
    rotate(folder, chosen(folder, "secret_key", []), signed_holds=False)
    assert not left(folder) & {"secret_key", FALLBACK}


def test_an_interrupted_one_may_be_done_again(folder: Path) -> None:
    """The key is not there, and the one before is not forgotten."""
    for _ in range(2):
        rotate(folder, chosen(folder, "secret_key", []), signed_holds=True)
    assert (folder / FALLBACK).read_text() == "secret_key of before\n"


@pytest.mark.parametrize(
    ("asked", "own", "words"),
    [
        ("", [], "no secret is named"),
        ("redis_pasword", [], "there is no redis_pasword in "),
        ("../hosts.yml", [], "there is no "),
        ("of_a_person", [], "there is no of_a_person in "),
        ("redis_password,backup_passphrase", [], "backup_passphrase stays: what was backed up"),
        ("rabbitmq_cookie", [], "rabbitmq_cookie stays: "),
        ("member_authority.pem", [], "member_authority.pem stays: "),
        ("redis_password", ["vault_redis_password"], "change `vault_redis_password`, and run site.yml"),
        ("secret_key", ["vault_site_secret_key"], "change `vault_site_secret_key`, and run site.yml"),
    ],
)
def test_what_cannot_be_made_anew_is_said_and_nothing_has_gone(
    folder: Path, asked: str, own: list[str], words: str
) -> None:
    before = left(folder)
    with pytest.raises(RotationError, match=re.escape(words)):
        chosen(folder, asked, own)
    assert left(folder) == before
