"""A lock is held by one at a time, by nobody but its owner's account, and says who has it."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.celeriac.site.plugins.module_utils.site_claim import began
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import HeldError
from ansible_collections.celeriac.site.plugins.module_utils.site_lock import locked


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a lock may be."""
    return tmp_path / "deploy.lock"


def refusal(path: Path) -> str:
    """What somebody else is told who wants the lock."""
    with pytest.raises(HeldError) as refused, locked(path, "another deploy"):
        pass
    return str(refused.value)


def test_the_one_who_holds_it_is_named(path: Path) -> None:
    with locked(path, "deploy of release 0123456789ab by me"):
        said = refusal(path)
    assert "deploy of release 0123456789ab by me, since " in said
    assert f"pid {os.getpid()}, which is at work" in said


def test_it_is_free_when_its_holder_is_done(path: Path) -> None:
    with locked(path, "what is said in many words"):
        pass
    with locked(path, "another"):
        assert len(path.read_text().splitlines()) == 2
        assert "another, since" in path.read_text()


def test_nobody_else_can_open_it(path: Path) -> None:
    path.touch()
    path.chmod(0o644)  # as it was made once
    with locked(path, "deploy"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_holder_that_it_does_not_name_is_no_deploy(path: Path) -> None:
    # Its note is of a process that has ended.
    ended = subprocess.Popen(["true"])
    ended.wait()
    path.write_text(f"deploy of release 0123456789ab by me, since yesterday, pid {ended.pid}\n1\n")
    with path.open() as stranger:
        fcntl.flock(stranger, fcntl.LOCK_EX)
        said = refusal(path)
    assert f"pid {ended.pid}, which has ended" in said
    assert f"Another process holds {path}" in said


def test_a_number_that_another_process_has_by_now_is_no_holder(path: Path) -> None:
    path.write_text(f"deploy, since yesterday, pid {os.getpid()}\n1\n")
    with path.open() as stranger:
        fcntl.flock(stranger, fcntl.LOCK_EX)
        assert "which has ended" in refusal(path)


def test_a_process_that_nobody_has_waited_for_has_ended() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert began(process.pid) == ""
    process.wait()
    assert began(process.pid) == ""
    assert began(os.getpid()) != ""
