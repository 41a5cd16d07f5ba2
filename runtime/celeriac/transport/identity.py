"""Which process this is, and whether another of the same host can be seen to be dead.

What is compared: the boot of the host, the namespace of process ids, the process id, and when that
process was started. A process id is used again; with the other three it is unique.
(proc_pid_stat(5), proc_sys_kernel(5), namespaces(7))
"""

import json
import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypedDict


class Identity(TypedDict):
    """A process, as it is written down for others.

    ``host`` is the boot and the namespace, empty where they cannot be told; ``start`` is in ticks
    since the boot; ``hostname`` and ``unit`` are for people.
    """

    host: str
    hostname: str
    unit: str
    pid: int
    start: str


def own() -> str:
    """Return the identity of this process as JSON."""
    identity: Identity = {
        "host": _host(),
        "hostname": socket.gethostname(),
        "unit": os.environ.get("CELERIAC_UNIT", ""),
        "pid": os.getpid(),
        "start": _started(os.getpid()) or "",
    }
    return json.dumps(identity)


def is_dead(identity: Identity) -> bool:
    """Return whether a process is certainly dead: of this host, and not there any more."""
    if not identity["host"] or identity["host"] != _host():
        return False
    try:
        os.kill(identity["pid"], 0)  # asks the kernel, also where /proc hides the process
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    started = _started(identity["pid"])
    return started is not None and started != identity["start"]


def _started(pid: int) -> str | None:
    """Return when a process was started; "" if it has ended, None if it cannot be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


@cache
def _host() -> str:
    # systemd tells a unit the boot as `%b`: a sandbox may hide all of /proc but the processes.
    boot = os.environ.get("CELERIAC_BOOT_ID", "")
    with suppress(OSError):
        boot = boot or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
    return f"{boot.replace('-', '')} {namespace}" if boot else ""
