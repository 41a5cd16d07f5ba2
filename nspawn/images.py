"""Base images: the root file systems that new machines are copies of."""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import sys
from pathlib import Path

from nspawn.files import write_whole
from nspawn.locks import locked
from nspawn.shell import run

CODENAMES = {"12": "bookworm", "13": "trixie"}
# What the smallest installation with SSH has, and what Ansible needs on a host: python3 and sudo.
# Keep it bare: a package more here hides that a role forgot to install it.
PACKAGES = "systemd,systemd-sysv,dbus,python3,sudo,iproute2,ca-certificates,openssh-server"
USER = "admin"  # the account with sudo that an installer or a cloud image would have made
USER_ID = 1000
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "celeriac"
EXTRA_CERTIFICATES = Path("/usr/local/share/ca-certificates")


def base_image(debian: str) -> Path:
    """Return the root file system that new machines are copies of; build it if need be.

    Args:
        debian: their release, "12" or "13".
    """
    base = base_image_path(debian)
    with locked(f"base-{debian}"):
        if not base.exists():
            build_base_image(base, CODENAMES[debian])
    return base


def base_image_path(debian: str) -> Path:
    """Return where the base image of a release is, once it is built; another recipe has another place."""
    recipe = hashlib.sha256(f"{PACKAGES}\n{inspect.getsource(build_base_image)}".encode())
    for certificate in extra_certificates():
        recipe.update(certificate.read_bytes())
    return CACHE / f"{CODENAMES[debian]}-{recipe.hexdigest()[:12]}"


def build_base_image(base: Path, codename: str) -> None:
    """Build a base image, in about 20 s; it gets its name when it is complete."""
    print(f"Building the base image of Debian {codename}, once", file=sys.stderr, flush=True)
    CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = base.with_name(base.name + ".partial")
    shutil.rmtree(root, ignore_errors=True)
    bootstrap = ("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}")
    run(*bootstrap, codename, root, *apt_sources(codename))
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()  # each machine makes its own
    write_whole(root / "etc/hostname", "")  # it is a copy of this computer's
    (root / "etc/default/locale").write_text("LANG=C.UTF-8\n")
    sudoers = root / "etc/sudoers.d" / USER
    sudoers.write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)
    for certificate in extra_certificates():
        shutil.copy(certificate, root / "usr/local/share/ca-certificates")
    inside = ("chroot", root, "env", "-i", "PATH=/usr/sbin:/usr/bin")
    run(*inside, "update-ca-certificates")
    run(*inside, "useradd", "--create-home", "--shell=/bin/bash", f"--uid={USER_ID}", USER)
    run(*inside, "systemctl", "enable", "systemd-networkd.service")
    root.rename(base)


def extra_certificates() -> list[Path]:
    """Return the authorities added to this computer, a company's proxy for one."""
    return sorted(EXTRA_CERTIFICATES.glob("*.crt"))


def apt_sources(codename: str) -> list[str]:
    """Return sources.list lines with this computer's mirrors; none if it is not a Debian."""
    wanted = "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)"
    query = ("apt-get", "indextargets", "--format", wanted)
    targets = run(*query)
    if not targets:  # apt can describe only what it has downloaded
        run("apt-get", "update")
        targets = run(*query)
    mirrors: dict[str, str] = {}
    for line in targets.splitlines():
        origin, component, suite, mirror = line.split(" ")
        if (origin, component) == ("Debian", "main"):
            _, hyphen, archive = suite.partition("-")
            mirrors[hyphen + archive] = mirror
    archives = ("", "-updates", "-security")
    if not mirrors.keys() >= set(archives):
        return []  # mmdebstrap knows Debian's own
    return [f"deb {mirrors[archive]} {codename}{archive} main" for archive in archives]


def debian_release(root: Path) -> str:
    """Return the Debian release in a root file system: "12" or "13"."""
    return (root / "etc/debian_version").read_text().partition(".")[0]
