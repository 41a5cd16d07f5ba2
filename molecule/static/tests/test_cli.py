"""The words of `bin/celeriac` for a site with a name: what they call on a host is called after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import commands, hosts, inventories, playbooks
from cli.places import INVENTORIES

WORDS = [
    (["manage", "check"], ["{word}-manage", "check"]),
    (["celery", "status"], ["{word}-celery", "status"]),
    (["shell"], ["{word}-manage", "shell"]),
    (["alerts", "test"], ["{word}-alerts", "test"]),
    (["run", "env"], ["{word}-run", "env"]),
]


def test_the_examples_of_the_repository_are_nobodys_inventory() -> None:
    untouched = {name for name in inventories.names() if inventories._is_untouched(INVENTORIES / name)}
    assert untouched == {"cluster", "single"}


@pytest.fixture(params=["default", "shop"])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the site of an inventory with one host."""
    chosen = {} if request.param == "default" else {"site_name": request.param}
    groups = {group: {"hosts": ["h1"]} for group in commands.PROCESSES}
    monkeypatch.setattr(inventories, "chosen", Path)
    monkeypatch.setattr(hosts, "read", lambda _: hosts.Inventory(groups, {"h1": chosen}))
    return str(request.param)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is run on the host."""
    found: list[list[str]] = []

    def run(_: Any, words: list[str]) -> int:
        found.append(words)
        return 0

    monkeypatch.setattr(hosts, "run", run)
    monkeypatch.setattr(hosts, "run_on_all", run)
    return found


@pytest.mark.parametrize(("words", "called"), WORDS)
def test_a_command_is_that_of_the_site(name: str, calls: list[list[str]], words: list[str], called: list[str]) -> None:
    CliRunner().invoke(commands.celeriac, ["-i", "/", *words], catch_exceptions=False)

    assert calls == [[each.format(word="site" if name == "default" else name) for each in called]]


def test_the_journal_is_that_of_the_site(name: str, calls: list[list[str]]) -> None:
    CliRunner().invoke(commands.celeriac, ["-i", "/", "logs", "gunicorn"], catch_exceptions=False)
    CliRunner().invoke(commands.celeriac, ["-i", "/", "logs"], catch_exceptions=False)

    one, everybody = calls
    assert one[-1] == f"--identifier={'gunicorn' if name == 'default' else 'shop-gunicorn'}"
    assert any(f"/etc/{'site' if name == 'default' else 'shop'}/processes/*.service" in word for word in everybody)


def test_a_site_is_removed_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def run(playbook: str, _: Path, words: tuple[str, ...]) -> int:
        asked.append((playbook, words))
        return 0

    monkeypatch.setattr(inventories, "chosen", Path)
    monkeypatch.setattr(playbooks, "run", run)
    for words in (["shop"], [], ["-e", "remove=shop"]):
        CliRunner().invoke(commands.celeriac, ["-i", "/", "remove", *words], catch_exceptions=False)

    assert asked == [
        ("remove", ("-e", "remove=shop")),
        ("remove", ()),
        ("remove", ("-e", "remove=shop")),
    ]
