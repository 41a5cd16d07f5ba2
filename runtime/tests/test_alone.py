"""A program that runs when no other run of its unit does."""

import subprocess
import sys
from pathlib import Path

from testkit.waiting import comes_true

# It says that it runs, and ends when it is told to.
PROGRAM = "import sys; print(sys.argv[1], flush=True); sys.stdin.readline()"


def start(home: Path, name: str) -> "subprocess.Popen[str]":
    """Start a run."""
    return subprocess.Popen(
        [sys.executable, "-m", "celeriac.alone", sys.executable, "-c", PROGRAM, name],
        env={"HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_waits_for_the_one_before_and_has_its_words(tmp_path: Path) -> None:
    with start(tmp_path, "a $b") as first:
        assert first.stdout
        assert first.stdout.readline() == "a $b\n"
        with start(tmp_path, "second") as second:
            assert second.stdout
            assert second.stderr
            assert "it is waited for" in second.stderr.readline()
            assert second.poll() is None
            first.communicate("end\n")
            assert second.stdout.readline() == "second\n"
            second.communicate("end\n")
    assert (first.returncode, second.returncode) == (0, 0)


def test_a_killed_run_is_in_nobodys_way(tmp_path: Path) -> None:
    with start(tmp_path, "first") as first:
        assert first.stdout
        first.stdout.readline()
        first.kill()
    with start(tmp_path, "second") as second:
        assert second.communicate("end\n")[0] == "second\n"
    assert comes_true(lambda: second.returncode == 0)
