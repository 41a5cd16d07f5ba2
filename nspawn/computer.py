"""This computer: what it must have, and what machines take over from it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from nspawn.errors import MachineError
from nspawn.shell import run

TOOLS = {  # what this computer must have, and the Debian package that brings it
    "/usr/bin/mmdebstrap": "mmdebstrap",
    "/usr/bin/systemd-nspawn": "systemd-container",
    "/usr/sbin/nft": "nftables",
    "/usr/bin/ip": "iproute2",
    "/usr/bin/ssh": "openssh-client",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}


def become_root() -> None:
    """Start again with sudo when not root: mounts, interfaces and namespaces need it.

    Raises:
        MachineError: there is no sudo.
    """
    if os.geteuid() == 0:
        return
    if not shutil.which("sudo"):
        raise MachineError("Only root can make machines, and there is no sudo here: run this as root.")
    keep = "--preserve-env=CELERIAC_MACHINES,XDG_CACHE_HOME"
    script = str(Path(sys.argv[0]).resolve())
    os.execvp("sudo", ["sudo", keep, sys.executable, script, *sys.argv[1:]])


def prepare_computer(folder: Path) -> None:
    """Install the tools that are missing, and refuse a computer where machines cannot work.

    Args:
        folder: where the machines' disks will be; it need not exist.

    Raises:
        MachineError: machines cannot work here.
    """
    missing = sorted({package for file, package in TOOLS.items() if not Path(file).exists()})
    if missing and not shutil.which("apt-get"):
        raise MachineError(f"This computer lacks {', '.join(missing)}, and apt-get to install them.")
    if missing:
        run("apt-get", "update")
        quietly = ("env", "DEBIAN_FRONTEND=noninteractive")
        install = ("apt-get", "install", "--yes", "--no-install-recommends")
        run(*quietly, *install, "--option=DPkg::Lock::Timeout=600", *missing)
    try:
        run("unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "true")
    except MachineError as why:
        raise MachineError(f"This computer lets not even root make namespaces: {why}") from why
    disk = next(place for place in (folder, *folder.parents) if place.exists())
    if os.statvfs(disk).f_flag & (os.ST_NOSUID | os.ST_NOEXEC):
        raise MachineError(f"{folder} is mounted nosuid, so sudo fails there: set CELERIAC_MACHINES.")


def systemd_runs_here() -> bool:
    """Tell whether systemd manages this computer; it does not in most containers."""
    return Path("/run/systemd/system").exists()


def give_to_user(path: Path) -> None:
    """Hand a file of root to the person who typed sudo, who runs ssh and Ansible later."""
    if "SUDO_UID" in os.environ:
        os.chown(path, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))


def name_servers() -> str:
    """Return the text of a resolv.conf whose servers a machine can reach.

    Raises:
        MachineError: this computer's are all loopback addresses.
    """
    stubs_have_these = ("systemd/resolve/resolv.conf", "NetworkManager/no-stub-resolv.conf")
    for file in (Path("/etc/resolv.conf"), *(Path("/run") / name for name in stubs_have_these)):
        text = file.read_text() if file.exists() else ""
        servers = re.findall(r"^nameserver\s+(\S+)", text, re.MULTILINE)
        if servers and not any(server.startswith(("127.", "::1")) for server in servers):
            return text
    raise MachineError("/etc/resolv.conf names only loopback servers, which no machine can reach.")
