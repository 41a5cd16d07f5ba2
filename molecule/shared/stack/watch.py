"""Write down every command line that appears on a host: what `ps` would show at that moment."""

from __future__ import annotations

from stack.machine import Machine

UNIT = "watched-processes"
# Below /run, so that a reboot leaves nothing.
SCRIPT = f"/run/{UNIT}.py"
SEEN = f"/run/{UNIT}.txt"

# A process is read until it is 2 s old: what it is to become, it has become by then.
PROGRAM = f"""
import os, time
os.umask(0o077)
reads, seen = {{}}, set()
with open({SEEN!r}, "a", errors="replace") as log:
    while True:
        running = {{name for name in os.listdir("/proc") if name.isdigit()}}
        reads = {{pid: reads.get(pid, 0) + 1 for pid in running}}
        for pid in (pid for pid, count in reads.items() if count < 50):
            try:
                with open("/proc/" + pid + "/cmdline", errors="replace") as file:
                    line = file.read().replace("\\0", " ").replace("\\n", " ")
            except OSError:
                continue
            if line not in seen:
                seen.add(line)
                log.write(line + "\\n")
                log.flush()
        time.sleep(0.04)
"""


def start(machine: Machine) -> None:
    """Begin, or go on where it has begun."""
    if machine.state(UNIT) != "active":
        machine.feed(PROGRAM, "tee", SCRIPT)
        machine.root.check_output(f"systemd-run --quiet --collect --unit={UNIT} python3 {SCRIPT}")


def seen(machine: Machine) -> str:
    """Return the command lines so far, and those of the processes that run now."""
    now = "for file in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $file; echo; done 2> /dev/null"
    lines: str = machine.root.check_output(f"cat {SEEN}; {now}; true")
    return lines
