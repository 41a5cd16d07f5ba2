"""The machines of a checkout, running or not, and where their files are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nspawn.checkout import Checkout
from nspawn.computer import give_to_user
from nspawn.errors import MachineError
from nspawn.files import write_whole
from nspawn.shell import run


@dataclass(frozen=True)
class Machine:
    """A machine, running or not.

    Attributes:
        checkout: Whose it is.
        name: What the user calls it; also its host name.
        debian: Its Debian release, "12" or "13".
        number: The last part of its address, unique in its checkout.
        address: Its address at the last boot.

    """

    checkout: Checkout
    name: str
    debian: str
    number: int
    address: str = ""

    @property
    def interface(self) -> str:
        """Name of its network interface on this computer, as nspawn has it (IFNAMSIZ is 16)."""
        return f"vb-{self.id}"[:15]

    @property
    def id(self) -> str:
        """Name of its nspawn, unit and control group: unique among all checkouts."""
        return f"{self.checkout.id}-{self.number}"

    @property
    def unit(self) -> str:
        """Its unit on a computer that systemd manages."""
        return f"celeriac-machine-{self.id}.service"

    @property
    def veth(self) -> str:
        """The computer's end of its network cable, as nspawn names it."""
        return f"vb-{self.id}"

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.checkout.host(self.name)

    @property
    def root(self) -> Path:
        """Its root file system."""
        return self.folder / "root"

    @property
    def console(self) -> Path:
        """What it printed while it started."""
        return self.folder / "console.log"

    @property
    def known_hosts(self) -> Path:
        """Its host key, in the file format that ssh reads."""
        return self.folder / "known_hosts"

    def save(self) -> None:
        """Write down what `machines` reads."""
        about = {"name": self.name, "debian": self.debian, "number": self.number, "address": self.address}
        write_whole(self.folder / "machine.json", json.dumps(about))


def machines(checkout: Checkout) -> dict[str, Machine]:
    """Return a checkout's machines by name."""
    found = {}
    for file in sorted(checkout.folder.glob("hosts/*/machine.json")):
        about = json.loads(file.read_text())
        found[file.parent.name] = Machine(checkout, about["name"], about["debian"], about["number"], about["address"])
    return found


def existing_machine(checkout: Checkout, name: str) -> Machine:
    """Return the machine of this name.

    Raises:
        MachineError: there is none; with the names that there are.
    """
    known = machines(checkout)
    if name not in known:
        raise MachineError(f"There is no machine {name}; there are: {', '.join(known) or 'none'}.")
    return known[name]


def allocate(checkout: Checkout, name: str, debian: str) -> Machine:
    """Give a new machine its folder, its number and, for the first one, the key to log in with.

    To be called with the network lock held.

    Raises:
        MachineError: all numbers are taken.
    """
    free = set(range(2, 255)) - {machine.number for machine in machines(checkout).values()}
    if not free:
        raise MachineError("This checkout's network is full: remove a machine first.")
    machine = Machine(checkout, name, debian, min(free))
    machine.folder.mkdir(parents=True, exist_ok=True)
    checkout.folder.chmod(0o700)  # root file systems hold set-uid programs that no other user may start
    make_key(checkout.key)
    give_to_user(checkout.folder)
    give_to_user(checkout.key)
    machine.save()
    return machine


def make_key(key: Path) -> None:
    """Make the SSH key of a checkout, if it has none."""
    if not key.with_suffix(".pub").exists():
        key.unlink(missing_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bin/machine", "-f", key)
