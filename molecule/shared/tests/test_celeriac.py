"""`bin/celeriac`, as a person types it: the words reach the host, and what is said there comes back."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from stack.playbook import REPOSITORY

pytestmark = [pytest.mark.debian(13), pytest.mark.once]

Word = Callable[..., subprocess.CompletedProcess[str]]
# Django's own shell: nothing of IPython's.
TYPED = "print(f'{6 * 7} is the answer')\nexit()\n"


@pytest.fixture
def celeriac(inventory: Path) -> Word:
    """Run `bin/celeriac` with words, and return what came of it."""

    def run(*words: str, terminal: int | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(REPOSITORY / "bin/celeriac"), "-i", str(inventory), *words],
            env={name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=subprocess.PIPE if terminal is None else terminal,
            stderr=subprocess.PIPE if terminal is None else terminal,
            text=True,
            check=False,
        )

    return run


def test_the_status_is_for_people_and_for_machines(celeriac: Word) -> None:
    assert "gunicorn: active" in celeriac("status").stdout
    (host,) = json.loads(celeriac("status", "--json").stdout).values()
    assert host["release"]


def test_a_run_is_a_line_for_each_step(celeriac: Word) -> None:
    done = celeriac("deploy")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[-1].startswith("Done after "), done.stdout + done.stderr
    assert any(line.split()[:1] == ["preflight_host"] for line in lines)
    assert "TASK" not in done.stdout


def test_what_is_wrong_is_said_once_and_ends_red(celeriac: Word) -> None:
    done = celeriac("deploy", "-e", "site_domain=a_b")
    assert done.returncode != 0
    assert (done.stdout + done.stderr).count("which is no host name") == 1
    assert "Failed on localhost after" in done.stdout


def test_words_of_a_process_are_found_by_its_name(celeriac: Word) -> None:
    lines = celeriac("logs", "celery-beat", "-n", "3").stdout.splitlines()
    assert 1 <= len(lines) <= 3
    assert all(" celery-beat[" in line for line in lines)
    everybody = celeriac("logs", "-n", "1000").stdout
    assert " celery-beat[" in everybody and " gunicorn[" in everybody and " sshd[" not in everybody


def test_programs_run_in_the_release_that_serves(celeriac: Word) -> None:
    assert "no issues" in celeriac("manage", "check").stdout
    program = "import os, pwd, django; print(pwd.getpwuid(os.getuid())[0], '$HOME')"
    assert celeriac("run", "python", "-c", program).stdout.split() == ["site", "$HOME"], "quoted on its way"
    assert celeriac("run", "sh", "-c", "exit 7").returncode == 7


def test_a_shell_has_a_terminal(celeriac: Word) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, TYPED.encode())
    assert celeriac("shell", "--interface", "python", "--no-imports", terminal=theirs).returncode == 0
    os.close(theirs)
    said = b""
    while b"42 is the answer" not in said:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed, and all is read
            break
        said += part
    assert b"42 is the answer" in said
    os.close(ours)
