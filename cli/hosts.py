"""Commands on the hosts of an inventory, by the same SSH that Ansible has, with a terminal where there is one here."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click

from cli.places import PROGRAMS
from cli.playbooks import environment

# As root: with sudo where one logs in as somebody else. A root of a bare Debian may have no sudo.
_AS_ROOT = 'if [ "$(id -u)" = 0 ]; then exec "$@"; else exec sudo "$@"; fi'


@dataclass(frozen=True)
class Host:
    """A host, and how it is reached.

    Attributes:
        name: in the inventory.
        variables: what the inventory says of it, as it is written there.
    """

    name: str
    variables: Mapping[str, Any]

    def command(self, words: Sequence[str], *, terminal: bool) -> list[str]:
        """Return the command that runs another one as root on the host.

        Args:
            words: that one.
            terminal: whether it gets one of its own.
        """
        there = ["sh", "-c", _AS_ROOT, "sh", *words]
        if self.variables.get("ansible_connection") == "local":
            return there
        options = [
            *(["-t"] if terminal else []),
            *self._option("-p", "ansible_port"),
            *self._option("-l", "ansible_user"),
            *self._option("-i", "ansible_ssh_private_key_file"),
            *shlex.split(str(self.variables.get("ansible_ssh_common_args", ""))),
            *shlex.split(str(self.variables.get("ansible_ssh_extra_args", ""))),
        ]
        return ["ssh", *options, "--", str(self.variables.get("ansible_host", self.name)), shlex.join(there)]

    def _option(self, letter: str, variable: str) -> list[str]:
        value = self.variables.get(variable)
        return [letter, str(value)] if value else []


@dataclass(frozen=True)
class Inventory:
    """An inventory as `ansible-inventory` reads it.

    Attributes:
        groups: the names of the hosts of each group, and of the groups in it.
        variables: of each host.
    """

    groups: Mapping[str, Mapping[str, Sequence[str]]]
    variables: Mapping[str, Mapping[str, Any]]

    def hosts(self, *groups: str) -> list[Host]:
        """Return the hosts that are in any of these groups, each once."""
        names = dict.fromkeys(name for group in groups for name in self._names(group))
        return [Host(name, self.variables.get(name, {})) for name in names]

    def _names(self, group: str) -> Iterator[str]:
        found = self.groups.get(group, {})
        yield from found.get("hosts", ())
        for child in found.get("children", ()):
            yield from self._names(child)

    def first(self, group: str) -> Host:
        """Return the first host of a group.

        Raises:
            click.ClickException: it has none.
        """
        if found := self.hosts(group):
            return found[0]
        raise click.ClickException(f"The group `{group}` of the inventory has no host.")

    def choice(self, host: Host, name: str) -> Any:
        """Return what the inventory says of a choice; None where it says nothing."""
        return self.variables.get(host.name, {}).get(name)


def read(path: Path) -> Inventory:
    """Read an inventory.

    Raises:
        click.ClickException: it cannot be read.
    """
    command = [PROGRAMS / "ansible-inventory", "-i", path, "--list"]
    done = subprocess.run([*map(str, command)], env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise click.ClickException(done.stderr.strip())
    found: dict[str, Any] = json.loads(done.stdout)
    variables = found.pop("_meta", {}).get("hostvars", {})
    return Inventory(found, variables)


def run(host: Host, words: Sequence[str]) -> int:
    """Run a command on a host, here as if it were there, and return its exit status."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return subprocess.run(host.command(words, terminal=terminal), check=False).returncode


def run_on_all(hosts: Sequence[Host], words: Sequence[str]) -> int:
    """Run a command on hosts at the same time, the host's name before each line; return the worst exit status."""
    if len(hosts) == 1:
        command = hosts[0].command(words, terminal=False)
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    width = max(len(host.name) for host in hosts)
    started = []
    for host in hosts:
        process = subprocess.Popen(
            host.command(words, terminal=False), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        thread = threading.Thread(target=_pass_on, args=(process.stdout, f"{host.name:<{width}} | "))
        thread.start()
        started.append((process, thread))
    for _, thread in started:
        thread.join()
    return max(abs(process.wait()) for process, _ in started)


def _pass_on(lines: IO[str], before: str) -> None:
    for line in lines:
        sys.stdout.write(before + line)
        sys.stdout.flush()
