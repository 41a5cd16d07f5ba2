"""An apt that is at work is waited for, also where apt-get itself would not."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.celeriac.site.plugins.modules.debian_packages import ENVIRONMENT, patiently


@pytest.mark.parametrize(
    ("lock", "command"),
    [("lists/lock", ("update",)), ("cache/archives/lock", ("clean",))],
    ids=["lists", "archive"],
)
def test_a_lock_that_apt_get_does_not_wait_for_is_waited_for(tmp_path: Path, lock: str, command: tuple[str]) -> None:
    for folder in ("lists/partial", "cache/archives/partial", "none"):
        (tmp_path / folder).mkdir(parents=True)
    # No sources: it asks nobody.
    places = {"Dir::State::Lists": "lists", "Dir::Cache": "cache", "Dir::Etc::SourceParts": "none"}
    options = [f"--option={name}={tmp_path / place}" for name, place in places.items()]
    options += ["--option=Dir::Etc::SourceList=/dev/null", "--option=APT::Update::Post-Invoke::="]
    attempts: list[str] = []

    with (tmp_path / lock).open("w") as other:
        fcntl.lockf(other, fcntl.LOCK_EX)

        def attempt() -> tuple[int, str]:
            done = subprocess.run(
                ["apt-get", *options, *command],
                env=os.environ | ENVIRONMENT,
                capture_output=True,
                text=True,
                check=False,
            )
            attempts.append(done.stderr)
            fcntl.lockf(other, fcntl.LOCK_UN)
            return done.returncode, done.stderr

        code, said = patiently(attempt)

    assert code == 0, said
    assert len(attempts) == 2, attempts


def test_any_other_failure_is_final() -> None:
    attempts = []

    def attempt() -> tuple[int, str]:
        attempts.append(1)
        return 100, "E: Unable to locate package no-such-package"

    assert patiently(attempt) == (100, "E: Unable to locate package no-such-package")
    assert len(attempts) == 1
