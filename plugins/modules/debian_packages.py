#!/usr/bin/python
"""Install Debian packages in one apt transaction."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: debian_packages
short_description: Debian packages are installed
description:
  - Does what M(ansible.builtin.apt) with C(state=present) does, on hosts where that one cannot. It
    needs no python3-apt, which a bare
    Debian does not have (without it ansible.builtin.apt fails under C(--check)), finishes a dpkg
    run that was interrupted, and
    takes 20 ms instead of 700 when there is nothing to do.
options:
  name:
    description: Names of packages.
    type: list
    elements: str
    required: true
author: [Celeriac]
"""

EXAMPLES = r"""
- name: Redis is installed
  celeriac.site.debian_packages:
    name: [redis-server]
"""

RETURN = r"""
missing:
  description: The packages that were not installed before.
  returned: always
  type: list
  elements: str
"""

# An apt of cloud-init or unattended-upgrades may be at work just after a host was made. apt-get waits for the
# lock of dpkg by itself, and for those of its lists and of its archive not at all.
LOCK_SECONDS = 300
HELD = re.compile("Could not get lock")
APT_GET = [
    "apt-get",
    f"--option=DPkg::Lock::Timeout={LOCK_SECONDS}",
    "--option=Dpkg::Options::=--force-confdef",
    "--option=Dpkg::Options::=--force-confold",
    "--quiet=2",
    "--yes",
]
INSTALL = [*APT_GET, "--no-install-recommends", "--fix-broken", "install"]
FRESH_SECONDS = 600
ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


def missing_packages(module: AnsibleModule, names: list[str]) -> list[str]:
    """Return those of the packages that are not wholly installed."""
    # dpkg-query exits with 1 when it knows one of the names not at all: that is an answer, not an
    # error.
    _, output, _ = module.run_command(["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Abbrev}\n", *names])
    status = dict(line.split(" ", 1) for line in output.splitlines() if " " in line)
    return [name for name in names if status.get(name, "").strip() != "ii"]


def was_interrupted() -> bool:
    """Say whether dpkg was killed: what it had not merged into its database is left in a folder."""
    return any(Path("/var/lib/dpkg/updates").iterdir())


def lists_are_fresh() -> bool:
    """Say whether the host looked at the archive a moment ago: roles of one run need not ask again."""
    # apt moves what it fetches out of this folder.
    fetched = Path("/var/lib/apt/lists/partial")
    return fetched.exists() and time.time() - fetched.stat().st_mtime < FRESH_SECONDS


def patiently(attempt: Callable[[], tuple[int, str]]) -> tuple[int, str]:
    """Try again while another apt has a lock that is needed.

    Args:
        attempt: runs a command; returns its status and what it said, in English.

    Returns:
        The last status, and what was said then.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        code, said = attempt()
        if code == 0 or not HELD.search(said) or time.monotonic() > deadline:
            return code, said
        time.sleep(1)


def install(module: AnsibleModule, names: list[str]) -> None:
    """Install packages, after finishing what an interrupted run left behind."""

    def run(*command: str) -> tuple[int, str]:
        def attempt() -> tuple[int, str]:
            code, output, error = module.run_command(list(command), environ_update=ENVIRONMENT)
            return int(code), str(error or output).strip()

        return patiently(attempt)

    run("dpkg", "--configure", "--pending", "--force-confdef", "--force-confold")
    code, said = 1, ""
    if lists_are_fresh():
        code, said = run(*INSTALL, *names)
    if code != 0:
        code, said = run(*APT_GET, "update")
        if code == 0:
            code, said = run(*INSTALL, *names)
    if code != 0:
        module.fail_json(msg=f"apt-get could not install {', '.join(names)}: {said}")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"name": {"type": "list", "elements": "str", "required": True}},
        supports_check_mode=True,
    )
    missing = missing_packages(module, module.params["name"])
    needed = bool(missing) or was_interrupted()
    if needed and not module.check_mode:
        install(module, missing)
    module.exit_json(changed=needed, missing=missing)


if __name__ == "__main__":
    main()
