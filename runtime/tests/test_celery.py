"""``python -m celeriac.celery``: what it does, and what it does not import for it."""

import subprocess
import sys

import pytest


def imported_by(module: str, *arguments: str) -> list[str]:
    """Return the packages that a run of a module imports anything of, as ``-X importtime`` lists them."""
    command = [sys.executable, "-X", "importtime", "-m", module, *arguments]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
    return [line.rpartition("|")[2].strip().partition(".")[0] for line in lines]


@pytest.mark.parametrize("command", ["worker", "beat"])
def test_it_imports_nothing_for_other_commands(command: str) -> None:
    others = {"flower", "tornado", "prompt_toolkit"}
    assert others <= {*imported_by("celery", command, "--help")}  # so there is something to leave out

    imported = {*imported_by("celeriac.celery", command, "--help")}
    assert "celery" in imported
    assert not others & imported


def test_a_command_of_another_package_can_be_the_one() -> None:
    assert "flower" in imported_by("celeriac.celery", "flower", "--help")
