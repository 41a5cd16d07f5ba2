"""What is let in, by the ruleset of an inventory; and that a changed one is never loaded without its way back."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader
from ansible.template import Templar
from ansible_collections.celeriac.site.plugins.module_utils import site_files, site_firewall
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import FirewallError
from ansible_collections.celeriac.site.plugins.module_utils.site_firewall import Firewall, mark_of, whole

ROLE = Path(__file__).resolve().parents[3] / "roles/firewall"
EVERYBODY = [
    "iif lo accept",
    "ct state established,related accept",
    "tcp flags & (syn | ack) != syn accept",
    "meta l4proto { icmp, icmpv6 } accept",
    "ip6 saddr fe80::/10 udp dport 546 accept",
    "tcp dport $ssh_ports accept",
]
WEB = "tcp dport { 80, 443 } accept"


def ruleset(**variables: Any) -> str:
    """Return the ruleset of an inventory."""
    loader = DataLoader()
    known: dict[str, Any] = loader.load_from_file(str(ROLE / "defaults/main.yml"))
    known |= loader.load_from_file(str(ROLE / "vars/main.yml"), trusted_as_template=True)
    known |= {"ansible_managed": "Ansible managed", "site_groups": ["web"], "site_others": [], "site_shared": {}}
    known |= {"firewall_enabled": True, "site_card": {}}
    known |= variables
    templar = Templar(loader=loader, variables=known)
    lookup = lookup_loader.get("ansible.builtin.template", loader=loader, templar=templar)
    text: str = lookup.run([str(ROLE / "templates/firewall.nft.j2")], known)[0]
    return text


def rules(text: str) -> list[str]:
    """Return what a ruleset lets in, a line each."""
    return [line.strip() for line in text.splitlines() if line.strip().endswith("accept")]


def test_by_default_ssh_and_the_web_are_let_in_and_nothing_else() -> None:
    text = ruleset()

    assert rules(text) == [*EVERYBODY, WEB]
    assert "hook input priority filter; policy drop;" in text
    # What containers send and get, and what the host sends, is not ours to look at.
    assert text.count("  chain ") == 1
    assert "flush" not in text


@pytest.mark.parametrize(
    ("mine", "theirs", "is_let_in"), [(["web"], [], True), (["workers"], [], False), (["workers"], ["web"], True)]
)
def test_the_web_is_let_in_where_a_site_of_the_host_has_it(mine: list[str], theirs: list[str], is_let_in: bool) -> None:
    assert (WEB in rules(ruleset(site_groups=mine, site_others=[{"groups": theirs}]))) is is_let_in


def test_what_is_named_is_let_in_for_those_that_are_named() -> None:
    ports: list[dict[str, Any]] = [
        {"port": 8443},
        {"port": "60000-61000", "protocol": "udp"},
        {"port": 9100, "from": ["10.0.0.5", "fd00::/8", "10.1.0.0/16"]},
        {"port": 9200, "from": ["fd00::1"]},
    ]
    named = [
        "tcp dport 8443 accept",
        "udp dport 60000-61000 accept",
        "ip saddr { 10.0.0.5, 10.1.0.0/16 } tcp dport 9100 accept",
        "ip6 saddr { fd00::/8 } tcp dport 9100 accept",
        "ip6 saddr { fd00::1 } tcp dport 9200 accept",
    ]

    assert rules(ruleset(firewall_open_ports=ports)) == [*EVERYBODY, WEB, *named]
    # It is as the site has it that came first.
    assert rules(ruleset(site_shared={"firewall_open_ports": ports})) == [*EVERYBODY, WEB, *named]


MEMBERS = {"port": 8443, "addresses": ["10.0.0.1", "10.0.0.2", "fd00::1"]}
OF_MEMBERS = [
    "ip saddr { 10.0.0.1, 10.0.0.2 } tcp dport 8443 accept",
    "ip6 saddr { fd00::1 } tcp dport 8443 accept",
]


def test_the_hosts_of_a_site_are_let_in_where_they_speak_to_each_other_and_nobody_else() -> None:
    assert rules(ruleset(site_card={"members": MEMBERS})) == [EVERYBODY[0], *OF_MEMBERS, *EVERYBODY[1:], WEB]
    # Without a firewall that is all there is: nothing else is kept out.
    alone = ruleset(site_card={"members": MEMBERS}, firewall_enabled=False)
    assert rules(alone) == [EVERYBODY[0], *OF_MEMBERS]
    assert "policy accept;" in alone
    assert "tcp dport 8443 drop" in alone
    # Each site of a host that has others has its own.
    others = [{"groups": ["web"], "members": {"port": 25001, "addresses": ["10.9.0.1"]}}, {"groups": []}]
    assert "ip saddr { 10.9.0.1 } tcp dport 25001 accept" in rules(ruleset(site_others=others))


def test_a_ruleset_takes_the_place_of_the_one_before_and_is_known_by_its_mark() -> None:
    text = whole("table inet celeriac { }", {2222, 22})

    assert text.startswith("add table inet celeriac\ndelete table inet celeriac\n")
    assert "define ssh_ports = { 22, 2222 }\n" in text
    assert mark_of(text)
    assert mark_of(text) == mark_of(whole("table inet celeriac { }", {22, 2222}))
    assert mark_of(text) != mark_of(whole("table inet celeriac { }", {22}))
    assert mark_of(text) != mark_of(whole("table inet celeriac { chain input { } }", {22, 2222}))
    assert "{ 22 }" in whole("", set())


def test_ssh_is_let_in_where_the_host_has_it() -> None:
    sockets = (
        'LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))\n'
        'LISTEN 0 128 [::]:2222 [::]:* users:(("sshd",pid=1,fd=4))\n'
        'LISTEN 0 511 0.0.0.0:80 0.0.0.0:* users:(("nginx",pid=2,fd=6))\n'
    )
    assert site_firewall.ports_of_sshd(sockets) == {22, 2222}
    assert site_firewall.ports_of_socket("/run/ssh (Stream) [::]:2200 (Stream) 0.0.0.0:22 (Stream)") == {2200, 22}
    environments = ["A=b\0SSH_CONNECTION=fd00::1 50000 fd00::2 2022\0C=d", "SSH_CONNECTION=", ""]
    assert site_firewall.port_of_connection(environments) == {2022}


# ── A change ─────────────────────────────────────────────────────────────────────────────────────


class Host:
    """A host that knows what is loaded, and what would take it back."""

    def __init__(self) -> None:
        self.loaded = ""
        self.is_armed = False
        self.is_enabled = False
        self.refuses = ""
        self.calls: list[str] = []

    def run(self, words: list[str]) -> tuple[int, str, str]:
        """Run a command."""
        self.calls.append(" ".join(words))
        if self.refuses and self.refuses in self.calls[-1]:
            return 1, "", "refused"
        match words:
            case ["nft", "--file", file]:
                self.loaded = Path(file).read_text()
            case ["nft", text]:
                self.loaded = text
            case ["nft", "list", *_]:
                return (0, self.loaded, "") if mark_of(self.loaded) else (1, "", "no such table")
            case ["systemd-run", *_]:
                self.is_armed = True
            case ["systemctl", "stop", *units] if f"{site_firewall.WAY_BACK}.timer" in units:
                self.is_armed = False
            case ["systemctl", "enable", *_]:
                self.is_enabled = True
            case ["systemctl", "show", "--property=ActiveState", _, *units]:
                state = "active" if self.is_armed else "inactive"
                return 0, "\n\n".join(f"ActiveState={state}" for _ in units), ""
            case ["systemctl", "show", *_, unit] if unit == site_firewall.SERVICE:
                state, file = ("active", "enabled") if self.is_enabled else ("inactive", "")
                return 0, f"ActiveState={state}\nUnitFileState={file}\n", ""
        return 0, "", ""

    def time_is_over(self) -> None:
        """Let the timer take back what is loaded."""
        self.loaded = (site_firewall.FOLDER / "before.nft").read_text()
        self.is_armed = False


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host without a firewall."""
    monkeypatch.setattr(site_firewall, "RULES", tmp_path / "etc/firewall.nft")
    monkeypatch.setattr(site_firewall, "UNIT", tmp_path / "unit")
    monkeypatch.setattr(site_firewall, "FOLDER", tmp_path / "run")
    come_from(monkeypatch, 1)
    return Host()


def come_from(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let what follows come over a connection."""
    monkeypatch.setattr(site_firewall, "connection", lambda: [number, "1"])


def change(host: Host, ruleset: str = "table", *, check: bool = False) -> site_firewall.Change:
    """Bring a ruleset, as far as a run gets over its first connection."""
    return Firewall(host.run).change(ruleset, "unit", 30, check=check)


def test_a_ruleset_is_loaded_behind_its_way_back_and_kept_when_it_is_confirmed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert change(host).armed
    kinds = [call.split()[0:2] for call in host.calls if call.startswith(("nft", "systemd-run"))][-3:]
    assert kinds == [["nft", "--check"], ["systemd-run", "--unit=celeriac-firewall-back"], ["nft", "--file"]]
    assert not site_firewall.RULES.exists()

    come_from(monkeypatch, 2)
    Firewall(host.run).confirm("unit")

    assert not host.is_armed
    assert site_firewall.RULES.read_text() == host.loaded
    assert site_firewall.UNIT.read_text() == "unit"
    assert change(host) == (False, False, host.loaded, host.loaded)


@pytest.mark.parametrize("refuses", ["nft --check", "systemd-run"])
def test_what_is_refused_or_cannot_be_taken_back_is_not_loaded(host: Host, refuses: str) -> None:
    host.refuses = refuses

    with pytest.raises(FirewallError, match="refused"):
        change(host)

    assert host.loaded == ""


def test_check_mode_changes_nothing(host: Host) -> None:
    assert change(host, check=True).changed

    assert not [call for call in host.calls if "systemd-run" in call or "--file" in call]
    assert not site_firewall.FOLDER.exists()


def test_the_connection_that_has_loaded_it_proves_nothing(host: Host) -> None:
    change(host)

    with pytest.raises(FirewallError, match="proves nothing"):
        Firewall(host.run).confirm("unit")

    assert not mark_of(host.loaded)
    assert not site_firewall.RULES.exists()


def test_what_was_taken_back_is_not_kept(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(host, monkeypatch)
    before = host.loaded
    change(host, "another table")
    host.time_is_over()

    come_from(monkeypatch, 3)
    with pytest.raises(FirewallError, match="was taken back"):
        Firewall(host.run).confirm("unit")

    assert host.loaded == site_firewall.RULES.read_text() == before


def test_what_a_killed_run_has_loaded_is_taken_back_by_the_next(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(host, monkeypatch)
    before = host.loaded
    change(host, "a bad table")

    come_from(monkeypatch, 3)
    change(host, "another table")

    # Its way back is not to what the killed one had loaded.
    assert (site_firewall.FOLDER / "before.nft").read_text() == before


def test_what_somebody_has_flushed_is_loaded_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(host, monkeypatch)
    host.loaded = ""

    assert change(host).armed
    assert mark_of(host.loaded)


def test_what_nobody_has_confirmed_can_be_removed(host: Host) -> None:
    change(host)

    assert Firewall(host.run).remove()
    assert not Firewall.is_there()
    assert not host.is_armed
    assert not mark_of(host.loaded)


@pytest.mark.parametrize("steps", range(4))
def test_a_removal_leaves_nothing_also_when_it_was_interrupted(
    host: Host, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    kept(host, monkeypatch)
    left = iter(range(steps))

    def remove(path: Path) -> bool:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return site_files.remove(path)

    monkeypatch.setattr(site_firewall, "remove", remove)
    with suppress(KeyboardInterrupt):
        Firewall(host.run).remove()
    monkeypatch.setattr(site_firewall, "remove", site_files.remove)
    assert Firewall.is_there() is (steps < 3)
    Firewall(host.run).remove()

    assert not mark_of(host.loaded)
    assert not any(path.exists() for path in (site_firewall.RULES, site_firewall.UNIT, site_firewall.FOLDER))
    assert Firewall(host.run).remove() is False


def kept(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a host have a firewall."""
    change(host)
    come_from(monkeypatch, 2)
    Firewall(host.run).confirm("unit")
