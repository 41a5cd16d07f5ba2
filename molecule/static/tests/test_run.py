"""Two runs do not change a host at the same time, and one that was killed is in nobody's way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.celeriac.site.plugins.module_utils.site_claim import (
    NOTE,
    claim,
    computer,
    connection,
    lives,
    process,
)
from stack.play import Play

ROOT = Path(__file__).resolve().parents[3]
CLAIM = "ansible_collections.celeriac.site.plugins.module_utils.site_claim"
SECONDS = 600
# Roles that change nothing on a host, or only what a run says of itself.
READERS = {
    f"celeriac.site.{role}"
    for role in ("site", "site_run", "preflight_host", "preflight_inventory", "site_health", "site_status")
}


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """Where a host keeps its note."""
    return tmp_path / "run.json"


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives."""
    with subprocess.Popen(["sleep", "infinity"]) as sleeping:
        yield sleeping
        sleeping.kill()


def run(what: str, pid: int, place: str = "") -> dict[str, Any]:
    """A run, by a process of this computer, or one that another computer has told of."""
    return {"what": what, "computer": place or computer(), "process": process(pid)}


def test_the_same_run_may_go_on(note: Path) -> None:
    mine = run("mine", os.getpid())
    assert claim(note, mine) is None
    assert claim(note, mine) is None


def test_a_run_of_the_same_computer_is_left_to_that_computer(note: Path, other: subprocess.Popen[bytes]) -> None:
    assert claim(note, run("theirs", other.pid)) is None
    held = claim(note, run("mine", os.getpid()))
    assert held
    assert held["what"] == "theirs"
    assert lives(held["process"])


def test_a_run_that_has_ended_is_replaced_and_no_other(note: Path, other: subprocess.Popen[bytes]) -> None:
    claim(note, run("theirs", other.pid))
    mine = run("mine", os.getpid())
    ended = claim(note, mine)
    assert ended
    assert claim(note, run("third", 1), over=ended) is None
    # Meanwhile a third one came.
    held = claim(note, mine, over=ended)
    assert held
    assert held["what"] == "third"


def test_a_run_of_another_computer_lives_as_long_as_its_connection(
    note: Path, other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{CLAIM}.connection", lambda: process(other.pid))
    assert claim(note, run("theirs", 1, "elsewhere")) is None
    mine = run("mine", os.getpid(), "here")
    held = claim(note, mine)
    assert held
    assert held["what"] == "theirs"
    other.kill()
    other.wait()
    # What is broken may come back: a computer knows better how its own runs are.
    assert claim(note, run("another", 2, "elsewhere"))
    assert claim(note, mine) is None


def test_a_run_on_the_host_itself_lives_as_long_as_its_process(note: Path, other: subprocess.Popen[bytes]) -> None:
    claim(note, run("theirs", other.pid))
    mine = run("mine", os.getpid(), "elsewhere")
    assert claim(note, mine)
    other.kill()
    other.wait()
    assert claim(note, mine) is None


def test_nobody_else_can_hold_it_up(note: Path) -> None:
    claim(note, run("mine", os.getpid()))
    assert note.stat().st_mode & 0o777 == 0o600
    assert Path(NOTE).parent == Path("/run")


def test_a_number_that_another_process_has_by_now_is_no_run() -> None:
    assert lives(process(os.getpid()))
    assert not lives([os.getpid(), "1"])
    assert not lives([])


def test_the_connection_is_found_among_the_ancestors(tmp_path: Path) -> None:
    """Whatever a server is called behind its `sshd`: 9.8 and later have a process of their own for a session."""
    assert connection() == [] or lives(connection())
    server = tmp_path / "sshd-session"
    server.symlink_to("/bin/sh")
    program = f"from {CLAIM} import connection; import os; print(connection()[0], os.getppid())"
    words = f"{sys.executable} -c '{program}'; :"
    done = subprocess.check_output([server, "-c", words], env={"PYTHONPATH": str(ROOT / "collections")}, text=True)
    found, parent = done.split()
    assert found == parent


# ── Real runs, on this computer ──────────────────────────────────────────────────────────────────


def playbook(folder: Path, name: str, note: Path) -> Path:
    """A playbook that claims this computer, and then waits until a file is there."""
    wait = {"path": str(folder / "go"), "timeout": 300}
    tasks = [{"celeriac.site.site_run": {"path": str(note)}}, {"ansible.builtin.wait_for": wait}]
    file = folder / name
    file.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    return file


@pytest.fixture
def start(tmp_path: Path, note: Path) -> Iterator[Callable[[str], Play]]:
    """Starts runs of a name."""
    hosts = tmp_path / "hosts.yml"
    hosts.write_text("all: { hosts: { h1: { ansible_connection: local } } }\n")
    plays: list[Play] = []

    def begin(name: str) -> Play:
        file = playbook(tmp_path, name, note)
        plays.append(Play(str(file), hosts, log=tmp_path / f"{name}.{len(plays)}.log"))
        return plays[-1]

    yield begin
    for play in plays:
        play.kill()


def test_a_second_run_is_refused_until_the_first_is_killed(
    tmp_path: Path, note: Path, start: Callable[[str], Play]
) -> None:
    first = start("first.yml")
    until = time.monotonic() + SECONDS
    while not note.exists() or not note.read_text():
        assert first.running(), first.output
        assert time.monotonic() < until, first.output
        time.sleep(0.1)

    refused = start("second.yml").wait()
    assert refused.status != 0
    assert "another run is at work on this host: first.yml by" in refused.output.replace("\n", " "), refused.output
    assert first.running(), first.output

    first.kill()
    (tmp_path / "go").touch()
    allowed = start("second.yml").wait()
    assert allowed.status == 0, allowed.output


# ── Where it holds ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("file", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda file: str(file.stem))
def test_a_playbook_claims_its_hosts_before_it_writes(file: Path) -> None:
    claimed: set[str] = set()
    for play in yaml.safe_load(file.read_text()):
        hosts = set(str(play.get("hosts", "")).split(":"))
        for entry in play.get("roles", []):
            if entry["role"] == "celeriac.site.site_run":
                assert entry["tags"] == ["always"]
                claimed |= hosts
            assert entry["role"] in READERS or hosts <= claimed, f"{entry['role']} writes first"
