"""A host of the stack, reached over SSH as the account that Ansible uses."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import testinfra
from testinfra.host import Host
from testinfra.utils.ansible_runner import AnsibleRunner

from testkit.waiting import eventually

# The processes of a release, and everything that has to run on a host with the whole stack.
PROCESSES = ("gunicorn", "celery-worker", "celery-beat", "flower")
# What the broker is, by what the scenario chooses.
BROKER_UNIT = "rabbitmq-server" if os.environ.get("CELERIAC_BROKER") == "rabbitmq" else "redis-server"
PROCESS_UNITS = (*PROCESSES, "gunicorn.socket", "flower.socket", "site.target")


@dataclass(frozen=True)
class Machine:
    """One host of the inventory.

    Attributes:
        name: its name in the inventory.
        inventory: the folder of the inventory.
        sockets: a folder for the SSH connection that all commands share.
    """

    name: str
    inventory: Path
    sockets: Path

    @cached_property
    def variables(self) -> dict[str, str]:
        """What the inventory says of it."""
        found: dict[str, str] = AnsibleRunner.get_runner(str(self.inventory)).get_variables(self.name)
        return found

    @property
    def address(self) -> str:
        """Its address on the bridge."""
        return self.variables["ansible_host"]

    @property
    def _ssh_arguments(self) -> str:
        control = f"-o ControlMaster=auto -o ControlPersist=60s -o ControlPath={self.sockets}/%C"
        return f"{control} {self.variables['ansible_ssh_common_args']}"

    def login(self, user: str = "", *, sudo: bool) -> Host:
        """Return it as testinfra sees it, with or without sudo, as Ansible's account or another."""
        return testinfra.get_host(
            f"ssh://{user or self.variables['ansible_user']}@{self.address}",
            sudo=sudo,
            ssh_identity_file=self.variables["ansible_ssh_private_key_file"],
            ssh_extra_args=self._ssh_arguments,
        )

    @cached_property
    def root(self) -> Host:
        """It, with every command under sudo."""
        return self.login(sudo=True)

    def feed(self, script: str | bytes, *command: str, sudo: bool = True) -> str:
        """Run a program on what it reads from standard input, and return what it prints.

        The way for whatever must not be seen: sudo writes command lines into the journal.

        Args:
            script: what goes to standard input.
            command: the program, `sh -s` where none is named.
            sudo: whether it runs as root.
        """
        remote = shlex.join([*(["sudo"] if sudo else []), *(command or ("sh", "-s"))])
        ssh = ["ssh", *shlex.split(self._ssh_arguments), "-l", self.variables["ansible_user"]]
        ssh += ["-i", self.variables["ansible_ssh_private_key_file"], self.address, remote]
        feed = script.encode() if isinstance(script, str) else script
        done = subprocess.run(ssh, input=feed, capture_output=True, check=False)
        assert done.returncode == 0, f"{remote}: {done.returncode}: {done.stderr.decode()}"
        return done.stdout.decode()

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit, as `systemctl show` gives it."""
        value: str = self.root.check_output("systemctl show --value --property=%s %s", name, unit)
        return value

    def environment(self, unit: str) -> dict[str, str]:
        """Return the environment that the main process of a unit was started with."""
        found = self.feed("", "cat", f"/proc/{self.show(unit, 'MainPID')}/environ")
        return dict(line.split("=", 1) for line in found.split("\0") if line)

    def environment_of_a_command(self) -> dict[str, str]:
        """Return the environment of what an operator runs as `site-manage`."""
        code = "import json, os; print(json.dumps(dict(os.environ)))"
        found: dict[str, str] = json.loads(self.feed(code, "site-manage", "shell", "--no-imports"))
        return found

    def state(self, unit: str) -> str:
        """Return what `systemctl is-active` says."""
        answer: str = self.root.run("systemctl is-active %s", unit).stdout.strip()
        return answer

    def systemctl(self, *words: str) -> None:
        """Run systemctl, which must succeed."""
        self.root.check_output(shlex.join(["systemctl", *words]))

    def wait_until_active(self, unit: str, seconds: float = 30) -> None:
        """Wait for a unit to become active."""
        eventually(lambda: self.state(unit) == "active", seconds)

    @contextmanager
    def stopped(self, unit: str) -> Iterator[None]:
        """Keep a unit stopped, and start it again whatever happens."""
        self.systemctl("stop", unit)
        try:
            yield
        finally:
            self.systemctl("start", unit)

    def kill(self, unit: str) -> None:
        """Kill the main process of a unit with SIGKILL, and wait until systemd has started another."""
        before = self.show(unit, "MainPID")
        self.systemctl("kill", "--kill-who=main", "--signal=KILL", unit)
        eventually(lambda: self.show(unit, "MainPID") not in {"0", before}, 30)
        self.wait_until_active(unit)

    def last_words(self, units: tuple[str, ...]) -> str:
        """Return the state and the end of the journal of some units."""
        # journalctl does not know that an alias stands for the unit of a release.
        words = "systemctl status --no-pager --full --lines=0 {0}; journalctl --no-pager -n 60 -u {0} -u '{0}-*'"
        return "\n\n".join(str(self.root.run(words.format(unit)).stdout) for unit in units)
