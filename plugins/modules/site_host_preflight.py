#!/usr/bin/python
"""Look at a host before anything is changed on it, in one round trip, and say what would not work.

Everything is read from /proc, /etc/os-release and statvfs(3); see proc(5). The code runs on Python
3.9 too, so that an old Debian gets an answer instead of a traceback.
"""

from __future__ import annotations

import os
import platform
import pwd
import re
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils import site_cards
from ansible_collections.celeriac.site.plugins.module_utils.site_alerts import name_of
from ansible_collections.celeriac.site.plugins.module_utils.site_names import CONFIGURATION, DEFAULT, Names
from ansible_collections.celeriac.site.plugins.module_utils.site_systems import IN_WORDS, NEWEST, TESTED

DOCUMENTATION = r"""
module: site_host_preflight
short_description: A host can carry its part of the site
description:
  - Reports every problem of a host at once and changes nothing. The action plugin of the same name
    prints them and fails.
options:
  free_disk_mb:
    description: The free disk space that /srv and /var must have, in megabytes.
    type: int
    required: true
  groups:
    description: The inventory groups of the host.
    type: list
    elements: str
    required: true
  untested:
    description: Whether a relative of Debian will do, on which nothing was tested.
    type: bool
    required: true
  interpreter:
    description: A Python that the host has, or its apt; empty for its own.
    type: str
    required: true
  accounts:
    description: Accounts that the run makes; who has one of them already must not be somebody else.
    type: list
    elements: str
    required: true
  home:
    description: The home of these accounts, which they have when an earlier run has made them.
    type: str
    required: true
  ports:
    description: Ports that must be free, or held by the program that is meant to have them.
    type: list
    elements: dict
    required: true
    suboptions:
      port:
        description: The TCP port.
        type: int
        required: true
      address:
        description: The address on which it is needed; C(*) for all.
        type: str
        default: "*"
      owner:
        description: How the name of the program, or of its systemd unit, begins.
        type: str
        required: true
      group:
        description: The inventory group whose hosts need the port.
        type: str
        required: true
  brokers:
    description: The broker that was chosen, as C(site_broker) has it, and the one before it.
    type: list
    elements: str
    required: true
  broker_node:
    description: What RabbitMQ on this host is called; empty where there is to be none.
    type: str
    default: ""
  certificates:
    description: Those of authorities that the host is to trust beside its own, as text, for a broker elsewhere.
    type: list
    elements: str
    default: []
  processes:
    description: The processes of the site that the host runs.
    type: list
    elements: str
    required: true
  calendars:
    description: Times of systemd that must be some, by the names of what runs then.
    type: dict
    default: {}
  card:
    description: What the site says of itself to the others of the host.
    type: dict
    required: true
  names:
    description: Names of units that must be nobody else's.
    type: list
    elements: str
    default: []
  backup_repository:
    description: Where backups are kept, as the choice of this name has it.
    type: str
    default: none
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The host can carry its part of the site
  celeriac.site.site_host_preflight:
    free_disk_mb: 2048
    groups: [web]
    untested: false
    interpreter: python3.13
    accounts: [site, site_deploy]
    home: /srv/site
    brokers: [rabbitmq, redis]
    processes: [celery-worker]
    card: "{{ site_card }}"
    ports:
      - { port: 443, owner: nginx, group: web }
"""

RETURN = r"""
problems:
  description: What is wrong, and a command that helps.
  returned: always
  type: list
  elements: dict
  sample: [{what: Port 80 is held, example: sudo systemctl disable --now apache2.service}]
ansible_facts:
  description: What the host is, as C(site_host).
  returned: always
  type: dict
  sample:
    site_host:
      python: 3.13.5
      cpus: 2
      memory_mb: 3913
      swap_mb: 1023
      disk_free_mb: 17210
      architecture: x86_64
      libc: "2.41"
      systemd: 257
      debian: "13"
      others_mb: { the site shop: 580 }
      haproxy: false
      keepalived: false
      alerts: false
"""

SUPPORTED_PYTHON = (3, 11)
# Where RabbitMQ has what is in its queues, by the name of the node.
NODES = Path("/var/lib/rabbitmq/mnesia")
OS_RELEASE = Path("/etc/os-release")
DISTRIBUTION_PYTHON = "/usr/bin/python3"
# Where releases, and where packages, databases and logs are kept.
DISK_FOLDERS = ("/srv", "/var")
UNIT_FOLDERS = tuple(map(Path, ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")))
APT_LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock")
# What a run gives its accounts, so that nobody logs in with them.
NO_LOGIN = ("/usr/sbin/nologin",)
ANY_ADDRESS = ("*", "0.0.0.0", "::")
TCP_LISTEN = "0A"
# What serves, and what its processes were told (module_utils/site_processes.py, which needs a newer Python).
UNITS = Path("/etc/systemd/system")
BROKER_URL = re.compile(r'(?m)^CELERIAC_BROKER_URL="([a-z]+)://(?:[^"/]*@)?([^"/@]+)')
# Where the bundle has its RabbitMQ.
OWN_RABBITMQ = ("amqp", "127.0.0.1:5672")
BROKER_PORTS = {"amqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379}
BROKER_SECONDS = 5


class Listener(NamedTuple):
    """A listening TCP socket."""

    address: str
    port: int
    inode: str


class Holder(NamedTuple):
    """A process that holds a socket."""

    pid: int
    name: str
    unit: str

    def __str__(self) -> str:
        """`apache2 (pid 812, apache2.service)`."""
        return f"{self.name} (pid {self.pid}{', ' + self.unit if self.unit else ''})"


# What keepalived reads, and what is in it where we wrote it (roles/keepalived).
KEEPALIVED = Path("/etc/keepalived/keepalived.conf")
OURS = "include /etc/keepalived/celeriac/"


class Fault(NamedTuple):
    """A problem of the host and a command or a line that helps."""

    what: str
    example: str


def os_release(text: str) -> dict[str, str]:
    """The assignments of an os-release(5) file."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name: value.strip("\"'") for name, _, value in pairs}


def is_tested(release: dict[str, str]) -> bool:
    """Whether the bundle is tested on a system."""
    return release.get("ID") == "debian" and release.get("VERSION_ID") in TESTED


def system_name(release: dict[str, str]) -> str:
    """What a system calls itself."""
    return release.get("PRETTY_NAME") or "an unknown system"


def distribution_fault(release: dict[str, str], *, untested: bool) -> Fault | None:
    """Refuse what the bundle is not tested on; of Debian's relatives only who has not asked for one."""
    related = "debian" in [release.get("ID"), *release.get("ID_LIKE", "").split()]
    if is_tested(release) or (related and untested):
        return None
    choice = "site_untested_host: true        (at your own risk; or " if related else ""
    return Fault(
        f"The host runs {system_name(release)}; tested are {IN_WORDS}.",
        f"{choice}{NEWEST}{')' if choice else ''}",
    )


def distribution_warning(release: dict[str, str]) -> str | None:
    """A sentence about a system that was let through."""
    if is_tested(release):
        return None
    return f"Nothing was tested on {system_name(release)}: packages, units, sandbox. Tested are {IN_WORDS}."


def init_fault(first_process: str) -> Fault | None:
    """Refuse a host whose process 1 is not systemd, such as a container."""
    if first_process == "systemd":
        return None
    return Fault(
        f"Process 1 of the host is {first_process or 'unknown'}, not systemd: nothing would start the services.",
        "a virtual machine, or a systemd-nspawn machine that was booted (-b)",
    )


def python_fault(version: tuple[int, ...]) -> Fault | None:
    """Refuse a distribution whose own Python is too old for the site."""
    if version[:2] >= SUPPORTED_PYTHON:
        return None
    shown = ".".join(map(str, version)) if version else "missing"
    return Fault(f"{DISTRIBUTION_PYTHON} is {shown}; 3.11 or later is needed.", NEWEST)


def interpreter_fault(wanted: str, known: set[str]) -> Fault | None:
    """Refuse a host that has not the Python that was chosen, and whose apt is known not to have it."""
    if not wanted or not known or wanted in known:
        return None
    numbers = sorted((int(name.rpartition(".")[2]), name) for name in known)
    has = ", ".join(name for _, name in numbers)
    example = f'site_python: "3.{numbers[-1][0]}"        (or without it: the one of the host)'
    return Fault(f"The host has no {wanted}, and neither has its apt: there is {has}.", example)


def known_pythons(lists: Path) -> set[str]:
    """The Pythons that the host has, or its apt; none where nobody has asked its archive yet."""
    if not [*lists.glob("*_Packages*")]:
        return set()
    command = ["apt-cache", "pkgnames", "python3."]
    names = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60).stdout.split()
    names += [path.name for path in Path(DISTRIBUTION_PYTHON).parent.glob("python3.*")]
    return {name for name in names if re.fullmatch(r"python3\.\d+", name)}


def backup_fault(release: dict[str, str], repository: str) -> Fault | None:
    """Refuse a repository that the pgBackRest of the host does not know: SFTP came with 2.46, Debian 12 has 2.45."""
    if repository != "ssh" or (release.get("ID"), release.get("VERSION_ID")) != ("debian", "12"):
        return None
    return Fault(
        f"The pgBackRest of {system_name(release)} cannot write to another host by SSH, as `backup_repository` is ssh.",
        "backup_repository: s3        (or Debian 13)",
    )


def disk_faults(free: dict[str, int], wanted_mb: int) -> Iterator[Fault]:
    """Refuse full file systems; folders with the same free space are on the same one."""
    for amount in sorted({amount for amount in free.values() if amount < wanted_mb}):
        folders = " and ".join(folder for folder in free if free[folder] == amount)
        yield Fault(
            f"For {folders}, {amount} MB of disk are free; {wanted_mb} MB are wanted.",
            f"preflight_host_free_disk_mb: {max(1, amount // 2)}        (or make room: sudo "
            "apt-get clean; sudo journalctl --vacuum-size=100M)",
        )


def account_faults(accounts: Iterable[str], home: str) -> Iterator[Fault]:
    """Refuse accounts that are somebody's: a run would take their home and their log-in."""
    for name in accounts:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        if found.pw_dir != home or found.pw_shell not in NO_LOGIN:
            yield Fault(
                f"The account {name}, which the site would run as, exists already and is somebody's "
                f"(uid {found.pw_uid}, home {found.pw_dir}, shell {found.pw_shell or '/bin/sh'}).",
                "site_user: mysite        (another name, in the inventory; or remove the account)",
            )


def parse_address(text: str) -> tuple[str, int]:
    """An address of /proc/net/tcp or tcp6, whose words are in the byte order of the machine."""
    words, _, port = text.partition(":")
    packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    address = socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
    return address[7:] if address.startswith("::ffff:") else address, int(port, 16)


def parse_listeners(table: str) -> Iterator[Listener]:
    """The listening sockets in the text of /proc/net/tcp or tcp6."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == TCP_LISTEN:
            yield Listener(*parse_address(fields[1]), fields[9])


def collides(wanted: str, held: str) -> bool:
    """Whether two listeners of one port get into each other's way."""
    return wanted == held or wanted in ANY_ADDRESS or held in ANY_ADDRESS


def unit_of(cgroups: str) -> str:
    """The systemd unit in a /proc/PID/cgroup of the old or the new layout; empty for none."""
    for line in cgroups.splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0" or controllers == "name=systemd":
            units = [part for part in path.split("/") if part.endswith((".service", ".socket"))]
            if units:
                return units[-1]
    return ""


def is_owner(holder: Holder, owner: str) -> bool:
    """Whether a process is the program that should have a port, by its name or its unit's."""
    return holder.name.startswith(owner) or holder.unit.startswith(owner)


def port_fault(port: int, owner: str, holders: list[Holder]) -> Fault | None:
    """Refuse a port that is held, unless by the program that should have it."""
    if any(is_owner(holder, owner) for holder in holders):
        return None
    holder = str(holders[0]) if holders else "a process that cannot be seen from here"
    unit = holders[0].unit if holders else ""
    stop = f"sudo systemctl disable --now {unit}" if unit else f"sudo ss --listening --tcp --processes 'sport = {port}'"
    return Fault(f"Port {port}, which {owner} needs, is held by {holder}.", stop)


def port_faults(ports: Iterable[dict[str, Any]], listeners: list[Listener], proc: Path) -> Iterator[Fault]:
    """Refuse the ports that a stranger holds."""
    for wanted in ports:
        held = [item for item in listeners if item.port == wanted["port"] and collides(wanted["address"], item.address)]
        if held:
            fault = port_fault(wanted["port"], wanted["owner"], holders_of({item.inode for item in held}, proc))
            if fault:
                yield fault


def holders_of(inodes: Iterable[str], proc: Path) -> list[Holder]:
    """The processes that hold these sockets, the oldest first."""
    links = {f"socket:[{inode}]" for inode in inodes}
    pids = sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())
    return [describe(pid, proc) for pid in pids if links & open_files(proc / str(pid))]


def open_files(process: Path) -> set[str]:
    """What the descriptors of a process point to; nothing for one that has just ended."""
    found = set()
    try:
        for descriptor in os.scandir(process / "fd"):
            try:
                found.add(str(Path(descriptor.path).readlink()))
            except OSError:
                continue
    except OSError:
        pass
    return found


def describe(pid: int, proc: Path) -> Holder:
    """A process by its name and its unit."""
    return Holder(
        pid,
        read(proc / str(pid) / "comm").strip() or "?",
        unit_of(read(proc / str(pid) / "cgroup")),
    )


def served_brokers(processes: Iterable[str], names: Names) -> set[str]:
    """The brokers of the bundle that what serves uses; none where that uses one elsewhere, or nothing serves yet."""
    found = set()
    for name in processes:
        unit = os.path.realpath(UNITS / f"{name}.service")
        file = names.environments / Path(unit).stem / "environment"
        if file.exists():
            told = BROKER_URL.search(file.read_text(errors="replace"))
            if not told or told.groups() == OWN_RABBITMQ:
                found.add("rabbitmq" if told else "redis")
    return found


def broker_fault(served: set[str], brokers: list[str]) -> Fault | None:
    """Refuse another broker than the one that serves, unless that is said to be the one before."""
    for broker in sorted(served.difference(brokers)):
        return Fault(
            f"The site's tasks are sent through {broker}, and what waits there would wait for ever.",
            f"site_broker_before: {broker}        (workers move it to the new one)",
        )
    return None


def node_fault(node: str, databases: Path) -> Fault | None:
    """Refuse a RabbitMQ that has run under another name: what waits in its queues would wait there for ever."""
    if not node:
        return None
    for path in sorted(databases.glob("rabbit@*")):
        if path.is_dir() and "-" not in path.name.partition("@")[2] and path.name != node:
            return Fault(
                f"RabbitMQ on this host has its queues as {path.name}, and is to be {node} now: a node that was "
                "alone, or had another address, becomes none of a cluster with what it has.",
                f"systemctl stop rabbitmq-server && mv {path} {path}.before        "
                "(on the host, when nothing waits there: docs/brokers.md)",
            )
    return None


def elsewhere_fault(broker: str, certificates: Iterable[str]) -> Fault | None:
    """Refuse a broker elsewhere that the host cannot reach, or does not trust. A release asks whether it is let in."""
    parts = urlsplit(broker)
    if parts.scheme not in BROKER_PORTS or not parts.hostname:
        return None
    port = parts.port or BROKER_PORTS[parts.scheme]
    place = f"{parts.hostname}:{port}"
    try:
        with socket.create_connection((parts.hostname, port), BROKER_SECONDS) as plain:
            if parts.scheme in ("amqps", "rediss"):
                trusting(parts.scheme, certificates).wrap_socket(plain, server_hostname=parts.hostname).close()
    except ssl.SSLCertVerificationError as error:
        if "mismatch" in error.verify_message:
            return Fault(
                f"`site_broker` is {broker}, and the certificate there is another one's: {error.verify_message}.",
                f"site_broker: {parts.scheme}://site@mq.mysite.org/site        (the name that the certificate is for)",
            )
        return Fault(
            f"`site_broker` is {broker}, and the host does not trust the certificate there: {error.verify_message}.",
            "site_ca_certificates: [files/company.crt]        (that of its authority, a file on this computer)",
        )
    except ssl.SSLError as error:
        return Fault(
            f"`site_broker` is {broker}, and {place} does not speak TLS: {error.reason or error}.",
            f"site_broker: {parts.scheme[:-1]}://site@mq.mysite.org/site        (or the port that does)",
        )
    except OSError as error:
        return Fault(
            f"`site_broker` is {broker}, and {place} does not answer the host: {error.strerror or error}.",
            f"site_broker: {parts.scheme}://site@mq.mysite.org:{port}/site        (its name and port; does a firewall "
            "let the host in?)",
        )
    return None


def trusting(scheme: str, certificates: Iterable[str]) -> ssl.SSLContext:
    """What trusts whom the host trusts, and will trust when the run has brought it these certificates.

    It is as strict as the client of such a broker: since Python 3.13 that of Redis wants more of an authority.
    """
    if scheme == "rediss":
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_default_certs()
    for certificate in certificates:
        context.load_verify_locations(cadata=certificate)
    return context


def lock_holder(locks: str, inode: int) -> int | None:
    """The pid that holds a lock on a file, from the text of /proc/locks."""
    for line in locks.splitlines():
        match = re.match(r"\d+: \S+ +\S+ +WRITE (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) ", line)
        if match and int(match.group(2)) == inode:
            return int(match.group(1))
    return None


def meminfo_mb(text: str, name: str) -> int:
    """An amount in the text of /proc/meminfo, in megabytes."""
    match = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(match.group(1)) // 1024 if match else 0


def free_mb(folder: str) -> int:
    """The disk space that is free to root where a folder is, or would be made, in megabytes."""
    path = Path(folder)
    while not path.exists():
        path = path.parent
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize // 2**20


def distribution_python() -> tuple[int, ...]:
    """The version of the distribution's own Python; empty where there is none."""
    if os.path.realpath(sys.executable) == os.path.realpath(DISTRIBUTION_PYTHON):
        return tuple(sys.version_info[:3])
    command = [DISTRIBUTION_PYTHON, "-c", "import sys; print(*sys.version_info[:3])"]
    try:
        output = subprocess.run(command, capture_output=True, check=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(map(int, output.split()))


def read(path: Path) -> str:
    """The text of a file; empty for one that is not there."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def apt_warning() -> str | None:
    """A sentence about another apt at work, for which the run will wait."""
    locks = read(Path("/proc/locks"))
    for lock in filter(os.path.exists, APT_LOCKS):
        if pid := lock_holder(locks, Path(lock).stat().st_ino):
            return f"apt is at work on the host: {describe(pid, Path('/proc'))}. The installation waits for it."
    return None


def calendar_faults(calendars: dict[str, str]) -> Iterator[Fault]:
    """Refuse times that the host's systemd does not know."""
    for name, every in calendars.items():
        command = ["systemd-analyze", "calendar", "--", every]
        try:
            asked = subprocess.run(command, capture_output=True, check=False, text=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            return  # an init that is another one has been told by now
        if asked.returncode != 0 or "Next elapse: never" in re.sub(" +", " ", asked.stdout):
            yield Fault(
                f"`site_timers` has `{name}`, which is to run `{every}`, and systemd knows no such time to come.",
                'every: "*:0/5"        (every five minutes; also hourly, "Mon *-*-* 04:30": man systemd.time)',
            )


def name_faults(units: Iterable[str], names: Names) -> Iterator[Fault]:
    """Refuse processes whose alias would take the place of a unit of somebody else's."""
    for name in units:
        for suffix in ("service", "timer"):
            held = [folder / f"{name}.{suffix}" for folder in UNIT_FOLDERS]
            held = [path for path in held if path.exists() and not is_ours(path, names)]
            if held:
                yield Fault(
                    f"The unit {name}.{suffix} of the host is somebody else's ({held[0]}), and a command or a timer of "
                    "the site is to be called so.",
                    f"site-{name}: {{ … }}        (another name, in site_commands or site_timers)",
                )


def is_ours(path: Path, names: Names) -> bool:
    """Whether a unit is one of the site's: those of releases, and their timers, say who they are, and whose."""
    text = read(path)
    return ("[X-Celeriac]" in text or "Ansible managed" in text) and f"PartOf={names.target}\n" in text


def site_faults(card: dict[str, Any], names: Names, cards: list[dict[str, Any]]) -> Iterator[Fault]:
    """Refuse a site that another one of the host is in the way of."""
    mine = [each for each in cards if each["name"] == card["name"]]
    others = [each for each in cards if each["name"] != card["name"]]
    for other in (each for each in mine if not site_cards.is_same(card, each)):
        yield Fault(
            f"The host has a site called `{card['name']}` already, another one: {other['domains'][0]}, of the "
            f"inventory {other['inventory']}.",
            "site_name: shop        (a name of its own; or playbooks/remove.yml with that inventory; or, if that site "
            f"is gone, sudo rm {site_cards.FOLDER}/{card['name']}.json)",
        )
    for other in others:
        for domain in sorted(set(card["domains"]) & set(other["domains"])):
            yield Fault(
                f"`{domain}` is a name of the site `{other['name']}` of this host, too ({other['inventory']}).",
                "site_domain: shop.mysite.org        (a name that no other site of the host has)",
            )
    yield from shared_faults(card, others)
    yield from entry_faults(card, others)
    if not mine:
        yield from stranger_faults(names, cards)


def shared_faults(card: dict[str, Any], others: list[dict[str, Any]]) -> Iterator[Fault]:
    """Refuse a choice about a daemon that is not for this site to make."""
    for first in others[:1]:
        for name, value in site_cards.SHARED.items():
            mine, theirs = card["shared"][name], first["shared"].get(name, value)
            if mine not in (value, theirs):
                yield Fault(
                    f"`{name}` is about what all sites of the host share, and `{first['name']}` was here first: "
                    f"there it is {theirs}.",
                    f"{name}: {theirs}        (or without it here, and changed in {first['inventory']})",
                )


def entry_faults(card: dict[str, Any], others: list[dict[str, Any]]) -> Iterator[Fault]:
    """Refuse an address for web hosts that another site has, and a keepalived that does something else here."""
    address = card.get("entry", {}).get("address")
    if not address:
        return
    for other in others:
        if other.get("entry", {}).get("address") == address:
            yield Fault(
                f"`site_virtual_address` is {address}, which the site `{other['name']}` of this host has, too.",
                "site_virtual_address: 10.0.0.101        (another one, which no site has)",
            )
    if KEEPALIVED.exists() and OURS not in KEEPALIVED.read_text(errors="replace"):
        yield Fault(
            f"The host has a keepalived already that is somebody else's ({KEEPALIVED}), and "
            "`site_virtual_address` would replace it.",
            'site_virtual_address: ""        (and the address in that file; or that file moved away)',
        )


def stranger_faults(names: Names, cards: list[dict[str, Any]]) -> Iterator[Fault]:
    """Refuse a name whose folders somebody else has, and a site that does not know yet that it has neighbours."""
    plain = Names(DEFAULT)
    if names.site == DEFAULT:
        return
    if plain.descriptions.exists() and not any(card["name"] == DEFAULT for card in cards):
        yield Fault(
            f"The host has a site that knows of no others yet ({CONFIGURATION}/{plain.word}).",
            "ansible-playbook -i inventory/<its own> playbooks/site.yml        (once, with this version)",
        )
    held = [path for path in (names.etc, Path("/srv") / names.word) if path.exists()]
    if held:
        yield Fault(
            f"The site is to be called `{names.site}`, and {' and '.join(map(str, held))} of the host "
            f"{'are' if len(held) > 1 else 'is'} somebody else's.",
            f"site_name: {names.site}2        (another name)",
        )


def systemd_version() -> int:
    """The version of systemd; 0 where there is none."""
    try:
        words = subprocess.run(
            ["systemctl", "--version"], capture_output=True, check=True, text=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.match(r"systemd (\d+)", words)
    return int(found.group(1)) if found else 0


def host_facts(others: list[dict[str, Any]], names: Names) -> dict[str, Any]:
    """What the host is, beside other sites that it has."""
    meminfo = read(Path("/proc/meminfo"))
    return {
        "python": ".".join(map(str, distribution_python())),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mb": meminfo_mb(meminfo, "MemTotal"),
        "swap_mb": meminfo_mb(meminfo, "SwapTotal"),
        "disk_free_mb": min(map(free_mb, DISK_FOLDERS)),
        "architecture": platform.machine(),
        "libc": platform.libc_ver()[1],
        "systemd": systemd_version(),
        "debian": os_release(read(OS_RELEASE)).get("VERSION_ID", ""),
        "others_mb": {f"the site {card['name']}": card["memory_mb"] for card in others},
        "haproxy": Path(f"/etc/haproxy/celeriac/{names.word}.cfg").exists(),
        "keepalived": Path(f"/etc/keepalived/celeriac/{names.word}.conf").exists(),
        "alerts": (UNIT_FOLDERS[0] / f"{name_of(names)}.timer").exists(),
    }


def faults(params: dict[str, Any], facts: dict[str, Any]) -> Iterator[Fault]:
    """Everything that is wrong with the host."""
    card, names = params["card"], Names(params["card"]["name"])
    version = tuple(int(part) for part in facts["python"].split(".") if part)
    found = [
        distribution_fault(os_release(read(OS_RELEASE)), untested=params["untested"]),
        init_fault(read(Path("/proc/1/comm")).strip()),
        python_fault(version),
        interpreter_fault(params["interpreter"], known_pythons(Path("/var/lib/apt/lists"))),
        backup_fault(os_release(read(OS_RELEASE)), params["backup_repository"]),
        broker_fault(served_brokers(params["processes"], names), params["brokers"]),
        node_fault(params["broker_node"], NODES),
        elsewhere_fault(params["brokers"][0], params["certificates"]) if params["processes"] else None,
    ]
    yield from (fault for fault in found if fault)
    yield from site_faults(card, names, site_cards.cards())
    yield from disk_faults({folder: free_mb(folder) for folder in DISK_FOLDERS}, params["free_disk_mb"])
    yield from account_faults(params["accounts"], params["home"])
    listeners = [item for table in ("tcp", "tcp6") for item in parse_listeners(read(Path("/proc/net") / table))]
    mine = [port for port in params["ports"] if port["group"] in params["groups"]]
    yield from port_faults(mine, listeners, Path("/proc"))
    yield from calendar_faults(params["calendars"])
    yield from name_faults(params["names"], names)


def main() -> None:
    """Run as a module."""
    port = {
        "port": {"type": "int", "required": True},
        "address": {"type": "str", "default": "*"},
        "owner": {"type": "str", "required": True},
        "group": {"type": "str", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "free_disk_mb": {"type": "int", "required": True},
            "groups": {"type": "list", "elements": "str", "required": True},
            "untested": {"type": "bool", "required": True},
            "interpreter": {"type": "str", "required": True},
            "accounts": {"type": "list", "elements": "str", "required": True},
            "home": {"type": "str", "required": True},
            "ports": {"type": "list", "elements": "dict", "required": True, "options": port},
            "brokers": {"type": "list", "elements": "str", "required": True},
            "broker_node": {"type": "str", "default": ""},
            "certificates": {"type": "list", "elements": "str", "default": []},
            "processes": {"type": "list", "elements": "str", "required": True},
            "calendars": {"type": "dict", "default": {}},
            "card": {"type": "dict", "required": True},
            "names": {"type": "list", "elements": "str", "default": []},
            "backup_repository": {"type": "str", "default": "none"},
        },
        supports_check_mode=True,
    )
    for warning in (apt_warning(), distribution_warning(os_release(read(OS_RELEASE)))):
        if warning:
            module.warn(warning)
    name = module.params["card"]["name"]
    facts = host_facts([card for card in site_cards.cards() if card["name"] != name], Names(name))
    problems = [fault._asdict() for fault in faults(module.params, facts)]
    # The card as well: what writes it need not work it out once more.
    module.exit_json(
        changed=False, problems=problems, ansible_facts={"site_host": {**facts, "card": module.params["card"]}}
    )


if __name__ == "__main__":
    main()
