"""What the sandbox refuses it refuses in words, and what libraries want of their computer is there."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from stack.machine import PROCESSES, Machine
from testinfra.host import Host

UNIT = "celeriac-sandbox-probe.service"
FILES = "/run/celeriac-sandbox-probe"
# What a task does that a library does for it: numpy and torch bind threads, psutil looks at the memory, matplotlib
# and others keep what they have found in a cache.
PROBE = """
import json, os, pathlib, tempfile

ELSEWHERE = "/srv/site", "/srv/site/data", "/var/lib", "."

def refused(call, *args):
    try:
        return f"done: {call(*args)!r}"
    except Exception as error:
        return type(error).__name__

def kept(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "probe").write_text("kept")
    return (folder / "probe").read_text()

print(json.dumps({
    "refused": [
        refused(os.nice, 1),
        refused(os.sched_setaffinity, 0, {0}),
        refused(os.setpriority, os.PRIO_PROCESS, 0, 5),
        refused(os.chroot, "/"),
    ],
    "memory": int(dict(line.split(":") for line in open("/proc/meminfo"))["MemAvailable"].split()[0]),
    "cache": kept(pathlib.Path.home() / ".cache" / "probe"),
    "xdg": kept(pathlib.Path(os.environ["XDG_CACHE_HOME"]) / "probe"),
    "data": kept(pathlib.Path("/srv/site/data/media/probe")),
    "temporary": kept(pathlib.Path(tempfile.gettempdir())) and tempfile.gettempdir(),
    "elsewhere": [refused((pathlib.Path(each) / "probe").write_text, "x") for each in ELSEWHERE],
    # Also those of the same account: what is in the environment of one is for it alone.
    "others": [pid for pid in os.listdir("/proc") if pid.isdecimal() and int(pid) != os.getpid()],
}))
"""


def sandboxed(text: str) -> str:
    """Return the unit of a process with the probe in the place of its program."""
    plain = re.sub(r"^ExecStart=(?:.*\\\n)*.*$", f"ExecStart=@PYTHON@ {FILES}.py", text, flags=re.M)
    plain = re.sub(r"^(Sockets|Requires|PartOf|Restart|Type|WatchdogSec|After)=.*\n", "", plain, flags=re.M)
    python = re.search(r"^ExecStart=(\S+)/bin/", text, flags=re.M)
    assert python
    return plain.replace("@PYTHON@", f"{python[1]}/bin/python").replace(
        "[Service]\n", f"[Service]\nType=oneshot\nStandardOutput=truncate:{FILES}.out\nStandardError=inherit\n"
    )


@pytest.mark.parametrize("process", PROCESSES)
def test_the_sandbox_refuses_and_lets_libraries_work(machine: Machine, host: Host, release: str, process: str) -> None:
    text = host.check_output("cat /etc/systemd/system/%s-%s.service", process, release)
    machine.feed(PROBE, "tee", f"{FILES}.py")
    machine.feed(sandboxed(text), "tee", f"/run/systemd/system/{UNIT}")
    try:
        machine.systemctl("daemon-reload")
        ended = host.run("systemctl start %s", UNIT)
        said = host.check_output("cat %s.out", FILES)
        assert ended.rc == 0, said
    finally:
        host.run(f"rm -f {FILES}.* /run/systemd/system/{UNIT}")
        machine.systemctl("daemon-reload")
    found: dict[str, Any] = json.loads(said)
    assert found["refused"] == ["PermissionError"] * 4
    assert found["memory"] > 0
    assert (found["cache"], found["xdg"], found["data"]) == ("kept", "kept", "kept")
    assert found["temporary"] == "/var/tmp"
    assert set(found["elsewhere"]) <= {"OSError", "PermissionError"}
    assert found["others"] == []
