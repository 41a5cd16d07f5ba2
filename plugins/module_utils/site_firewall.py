"""The firewall of a host: a table of our own in nftables, and a change of it that never cuts off who makes it.

| moment | what is loaded | who takes it back |
|---|---|---|
| armed | the ruleset from before | nobody need |
| loaded | the new one, which `nft --check` has taken | a timer of the host, with what was loaded before |
| confirmed | the new one: a new connection of Ansible came in, and the timer is stopped | nobody any more |
| kept | the new one, on the disk, and for each boot from now on | |

A run that is killed anywhere leaves the ruleset from before, at once or when the timer ends; so does a host that boots
meanwhile. The comment of the table is a mark of its ruleset: what is loaded is known by it, whoever has flushed what.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ansible_collections.celeriac.site.plugins.module_utils.site_claim import connection
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import FirewallError
from ansible_collections.celeriac.site.plugins.module_utils.site_files import remove, write_atomically
from ansible_collections.celeriac.site.plugins.module_utils.systemd import UNIT_DIRECTORY, Run, Systemd

TABLE = "inet celeriac"
SERVICE = "celeriac-firewall.service"
UNIT = UNIT_DIRECTORY / SERVICE
RULES = Path("/etc/celeriac/firewall.nft")
# What takes a ruleset back that nobody confirms; a timer that is there until then, and not after a boot.
WAY_BACK = "celeriac-firewall-back"
# What is loaded and not confirmed, what was before, and the connection that has loaded it. Gone after a boot, too.
FOLDER = Path("/run/celeriac-firewall")
NO_TABLE = f"add table {TABLE}\ndelete table {TABLE}\n"
# Where no sshd is found, nobody listens there.
SSH_PORT = 22
_MARK = re.compile(r'(?m)^\s*comment "([0-9a-f]{12})"')


class Change(NamedTuple):
    """What a ruleset brings.

    Attributes:
        changed: whether anything is changed, or would be.
        armed: whether it waits to be confirmed.
        before: the ruleset that was on the disk, empty for none.
        after: the new one.
    """

    changed: bool
    armed: bool
    before: str
    after: str


def whole(ruleset: str, ssh_ports: Iterable[int]) -> str:
    """Return the file of a ruleset: it takes the place of the one before in one step, and has a mark.

    Args:
        ruleset: the table, which may say `$ssh_ports`.
        ssh_ports: where SSH comes in.
    """
    ports = ", ".join(map(str, sorted(set(ssh_ports) or {SSH_PORT})))
    text = f"define ssh_ports = {{ {ports} }}\n{ruleset.rstrip()}\n"
    mark = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f'{NO_TABLE}table {TABLE} {{\n  comment "{mark}"\n}}\n{text}'


def mark_of(text: str) -> str:
    """Return the mark of a file, or of what `nft list` prints; empty for none."""
    found = _MARK.search(text)
    return found[1] if found else ""


def ports_of_sshd(sockets: str) -> set[int]:
    """Return where sshd listens, by `ss --tcp --listening --numeric --processes --no-header`."""
    lines = [line.split() for line in sockets.splitlines() if '"sshd"' in line]
    return {int(words[3].rpartition(":")[2]) for words in lines}


def ports_of_socket(listen: str) -> set[int]:
    """Return where systemd listens for sshd, by the property `Listen` of its socket."""
    return {int(port) for port in re.findall(r":(\d+) \(Stream\)", listen)}


def port_of_connection(environments: Iterable[str]) -> set[int]:
    """Return where a connection came in, by what sshd(8) puts into the environment of its processes."""
    found = (re.search(r"(?:^|\0)SSH_CONNECTION=\S+ \d+ \S+ (\d+)(?:\0|$)", text) for text in environments)
    return {int(each[1]) for each in found if each}


def environments_above(pid: str = "self") -> Iterable[str]:
    """Yield the environments of a process and of those that have started it; sudo takes away what sshd has said."""
    while pid not in ("0", "1"):
        try:
            yield Path(f"/proc/{pid}/environ").read_text(errors="replace")
            pid = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            return


class Firewall:
    """The firewall of this host.

    Args:
        run: to run commands.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._systemd = Systemd(run)

    @staticmethod
    def is_there() -> bool:
        """Say whether there is anything of it; what nobody has confirmed counts, too."""
        return RULES.exists() or UNIT.exists() or FOLDER.exists()

    def change(self, ruleset: str, unit: str, seconds: int, *, check: bool) -> Change:
        """Load a ruleset that is taken back unless it is confirmed; one that is there already needs nobody's word.

        Args:
            ruleset: the table.
            unit: the text of our unit.
            seconds: how long it may wait for that.
            check: nothing may be changed.

        Raises:
            FirewallError: the kernel does not take it, and nothing was changed.
        """
        new = whole(ruleset, self._ssh_ports())
        before, loaded = _text(RULES), self._loaded()
        is_right = (new, mark_of(new), unit) == (before, loaded, _text(UNIT))
        if (is_right and self._starts_at_boot() and not self._is_armed()) or check:
            return Change(not is_right, False, before, new)
        if self._is_armed():
            # An earlier run did not get so far as to confirm it.
            self._go_back()
            loaded = self._loaded()
        FOLDER.mkdir(mode=0o700, exist_ok=True)
        write_atomically(FOLDER / "new.nft", new.encode(), 0o600)
        back = before if loaded and loaded == mark_of(before) else NO_TABLE
        write_atomically(FOLDER / "before.nft", back.encode(), 0o600)
        write_atomically(FOLDER / "connection.json", json.dumps(connection()).encode(), 0o600)
        self._nft("--check", "--file", str(FOLDER / "new.nft"))
        self._arm(seconds)
        self._nft("--file", str(FOLDER / "new.nft"))
        return Change(True, True, before, new)

    def confirm(self, unit: str) -> None:
        """Keep what is loaded, for a connection came in; the boot loads it from now on.

        Args:
            unit: the text of our unit.

        Raises:
            FirewallError: it was taken back already, or this is the connection that has loaded it.
        """
        was = _text(FOLDER / "connection.json")
        if self._is_armed() and was != "[]" and json.loads(was) == connection():
            self._go_back()
            raise FirewallError("this is the connection that has loaded the ruleset, which proves nothing")
        self._disarm()
        new = _text(FOLDER / "new.nft")
        if self._loaded() != mark_of(new):
            remove(FOLDER)
            raise FirewallError("the ruleset was taken back")
        RULES.parent.mkdir(mode=0o755, exist_ok=True)
        write_atomically(RULES, new.encode(), 0o600)
        write_atomically(UNIT, unit.encode())
        self._systemd.call("daemon-reload")
        self._systemd.call("enable", "--quiet", SERVICE)
        self._systemd.start(SERVICE)
        remove(FOLDER)

    def remove(self, *, check: bool = False) -> bool:
        """Take it away, and nothing of anybody else's; return whether there was anything.

        Args:
            check: nothing may be changed.
        """
        if not self.is_there() or check:
            return self.is_there()
        self._disarm()
        if UNIT.exists():
            self._systemd.call("disable", "--quiet", "--now", SERVICE)
        # Somebody may have stopped the unit and loaded the file.
        self._nft(NO_TABLE)
        remove(UNIT)
        self._systemd.call("daemon-reload")
        self._run(["systemctl", "reset-failed", SERVICE])  # one that has not failed is not known to it
        remove(FOLDER)
        # The last: a run that was interrupted finds it.
        remove(RULES)
        return True

    def _ssh_ports(self) -> set[int]:
        _, sockets, _ = self._run(["ss", "--tcp", "--listening", "--numeric", "--processes", "--no-header"])
        socket = self._systemd.properties("ssh.socket", "ActiveState", "Listen")
        listen = socket.get("Listen", "") if socket.get("ActiveState") == "active" else ""
        return ports_of_sshd(sockets) | ports_of_socket(listen) | port_of_connection(environments_above())

    def _loaded(self) -> str:
        _, output, _ = self._run(["nft", "list", "table", *TABLE.split()])  # it fails where there is none
        return mark_of(output)

    def _starts_at_boot(self) -> bool:
        shown = self._systemd.properties(SERVICE, "ActiveState", "UnitFileState")
        return shown == {"ActiveState": "active", "UnitFileState": "enabled"}

    def _is_armed(self) -> bool:
        return "active" in self._systemd.states([f"{WAY_BACK}.timer", f"{WAY_BACK}.service"]).values()

    def _arm(self, seconds: int) -> None:
        # A timer may be a minute late, unless it is told otherwise.
        options = [f"--on-active={seconds}", "--timer-property=AccuracySec=100ms", "--collect", "--quiet"]
        command = ["/usr/sbin/nft", "--file", str(FOLDER / "before.nft")]
        code, output, error = self._run(["systemd-run", f"--unit={WAY_BACK}", *options, *command])
        if code != 0:
            raise FirewallError(f"the firewall was left as it was, for it could not be taken back: {error or output}")

    def _go_back(self) -> None:
        self._nft("--file", str(FOLDER / "before.nft"))
        self._disarm()

    def _disarm(self) -> None:
        # Both: the service may be at work this moment, and has ended then. (Neither is there any more otherwise.)
        self._run(["systemctl", "stop", f"{WAY_BACK}.timer", f"{WAY_BACK}.service"])

    def _nft(self, *words: str) -> None:
        code, output, error = self._run(["nft", *words])
        if code != 0:
            raise FirewallError(f"nft {words[0]}: {(error or output).strip()}")


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
