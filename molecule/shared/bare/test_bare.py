"""A host that nothing was ever done to: `--check --diff` as root says what it would do, and does none of it."""

from __future__ import annotations

from functools import partial

from stack.machine import Machine
from stack.playbook import Run
from testinfra.host import Host

# What a log-in alone writes, and Ansible's own folder for temporary files.
BESIDES = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/var/log", "/root/.ansible")


def state(host: Host) -> dict[str, str]:
    """Return every file with size, time, mode and owner, and every package."""
    ways = " -o ".join(f"-path {folder}" for folder in BESIDES)
    # The time of a directory changes when a log-in makes and removes a file in it.
    kinds = "\\( -type d -printf '\\n' -o -printf ' %s %T@\\n' \\)"
    files = f"find / \\( {ways} \\) -prune -o -printf '%p %y %m %U %G' {kinds}"
    lines = host.check_output(f"{files}; dpkg-query --show").splitlines()
    return {line.split()[0]: line for line in lines}


def test_check_mode_changes_nothing(machine: Machine, host: Host, ansible: partial[Run]) -> None:
    before = state(host)

    # As root, who needs no sudo: a bare host often has none.
    sudo = host.check_output("readlink --canonicalize /usr/bin/sudo")
    root = machine.login("root", sudo=False)
    root.check_output("chmod a-x %s", sudo)
    try:
        run = ansible("--check", "--diff", "-vv", "-e", "ansible_user=root")
    finally:
        root.check_output("chmod u+s,a+x %s", sudo)

    assert run.status == 0, run.output
    assert run.trouble == 0, run.output
    assert run.changed > 0, run.output
    after = state(host)
    assert {
        name: (before.get(name), after.get(name))
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    } == {}
