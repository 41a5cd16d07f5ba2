"""What a type cannot say about an inventory: one small function a rule.

A rule looks at a `Site` and yields a `Problem` for what would fail later, on a host, with a worse
message. It says nothing where a value is unknown or of the wrong type: another check says that.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import re
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.celeriac.site.plugins.module_utils.site_hooks import faults_of as faults_of_hooks

from ..origin.origin import Origin, fault_of, is_read_as_inventory
from ..resolve.errors import LockError
from ..resolve.projects import Wanted, read_project
from .certificate import faults_of
from .engines import ENGINE_RULES, OWN_BROKERS
from .entry import ENTRY_RULES
from .firewall import fault_of_port, is_for_others, opens
from .losses import LOSS_RULES
from .memory import fault_of_limit
from .names import nearest
from .problem import Place, Problem
from .processes import POOL, Fault, faults_of_command, faults_of_pool, faults_of_timer, faults_together
from .source import SourceError, read_source

Rule = Callable[["Site"], Iterator[Problem]]

# Groups that hold exactly one host, and why.
SINGLE = {"monitor": "what one Flower has seen another one does not know"}
# Parts that a site can be without.
OPTIONAL = ("beat", "monitor")
HOSTS_EXAMPLE = "{group}: { hosts: { www.mysite.org: } }"

# Names and addresses that were set aside for documentation (RFC 2606, RFC 5737): nobody's host has
# one.
_EXAMPLE_NAME = re.compile(r"(^|\.)example(\.(com|net|org))?$", re.IGNORECASE)
_EXAMPLE_NETWORKS = [
    ipaddress.ip_network(net) for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]

# The authority that is chosen by default, and where it is tried out.
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/"
LETS_ENCRYPTS = (LETS_ENCRYPT, "https://acme-staging-v02.api.letsencrypt.org/")
# What a backup in a store must know, each with what it may be made of, and one that is right.
BACKUP_STORE = {
    "backup_s3_endpoint": (r"[A-Za-z0-9.-]+(:[0-9]{1,5})?", "s3.eu-central-1.amazonaws.com        (its name alone)"),
    "backup_s3_bucket": (r"[a-z0-9][a-z0-9.-]{2,62}", "backups-of-mysite"),
    "backup_s3_region": (r"[A-Za-z0-9-]+", "eu-central-1"),
    "backup_s3_folder": (r"/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*/?", "www.mysite.org"),
    "backup_s3_key_id": (r"[!-~]+", "AKIAIOSFODNN7EXAMPLE"),
    "vault_backup_s3_key": (r"[!-~]+", '"wJalrXUtnFEMI/K7MDENG"'),
}
# The same of one on another host.
BACKUP_OTHER_HOST = {
    "backup_ssh_host": (r"[A-Za-z0-9.-]+(:[0-9]{1,5})?", "backup.mysite.org        (its name alone)"),
    "backup_ssh_host_key": (
        r"(ssh|ecdsa)-[a-z0-9-]+ [A-Za-z0-9+/=]+\s*",
        "ssh-ed25519 AAAAC3Nz…        (what `ssh-keyscan -t ed25519 HOST` prints, without the name)",
    ),
    "backup_ssh_user": (r"[A-Za-z_][A-Za-z0-9_.-]*", "backup"),
    "backup_ssh_folder": (r"(/[A-Za-z0-9_.-]+)+", "/backups/www.mysite.org"),
    "vault_backup_ssh_key": (
        r"\s*-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/=\s]+-----END [A-Z ]*PRIVATE KEY-----\s*",
        "\"{{ lookup('ansible.builtin.file', '~/ops/key') }}\"        (of `ssh-keygen -t ed25519 -N '' -f ~/ops/key`)",
    ),
}
BACKUP_AWAY = {"s3": BACKUP_STORE, "ssh": BACKUP_OTHER_HOST}
# What the sandbox of the server shows it empty, or lets it not write to.
BACKUP_NOT_HERE = (
    "/home",
    "/root",
    "/run",
    "/tmp",
    "/var/tmp",
    "/usr",
    "/etc",
    "/boot",
    "/dev",
    "/proc",
    "/sys",
    "/srv/site",
)
BACKUP_CALENDARS = {
    "backup_database_calendar": '"*-*-* 02:30"',
    "backup_files_calendar": "hourly",
    "backup_verify_calendar": '"Sun *-*-* 04:30"',
}

# The choices that add processes under names of their own, each with a line that is right.
ADDED = {
    "site_commands": "site_commands: { consumer: { command: [document_consumer] } }",
    "site_timers": 'site_timers: { periodic: { command: [runperiodic], every: "*:0/5" } }',
}

# What is no name on the internet (RFC 2606, 6761, 6762, 8375, 9476).
_INNER_NAME = re.compile(
    r"(^|\.)(test|invalid|localhost|local|internal|alt|onion|home\.arpa|lan|home|corp)$", re.IGNORECASE
)

_E_MAIL = re.compile(r"[^\s@,\"'\\]+@[^\s@,\"'\\]+\.[^\s@,\"'\\.]+")
_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_DOMAIN = re.compile(rf"^(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*$")
_IDENTIFIER = r"[A-Za-z_]\w*"
_MODULE = re.compile(rf"^{_IDENTIFIER}(\.{_IDENTIFIER})*$")

# Settings and variables that the release sets by itself, and the choice that decides.
_OF_A_RELEASE = {
    "DJANGO_SETTINGS_MODULE": "site_settings_module: config.settings",
    "STATIC_ROOT": "site_static_url: /static/        (its files are collected into the release)",
}

# A file, as it may be part of an argument and of a setting of systemd.
_FILE = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
# A folder, as it may be part of an address and of an argument; and an address that nginx serves.
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_URL_PATH = re.compile(r"/([A-Za-z0-9_~-][A-Za-z0-9_.~-]*/)+")
# What answers there already.
_TAKEN_PATHS = ("/flower/", "/-/")

_PYTHON = re.compile(r"3\.(1[1-9]|[2-9]\d)")

# Short, for with what stands behind it in the name of an account it must be one.
_SITE = re.compile(r"[a-z][a-z0-9]{0,11}")
# What else has such a name in /etc, /srv, /usr/local/bin or among units, by ours or by Debian's packages.
RESERVED_SITES = (
    *(
        "site",
        "results",
        "celeriac",
        "nginx",
        "redis",
        "rabbitmq",
        "postgresql",
        "pgbackrest",
    ),
    *("backup", "systemd", "ssh", "ssl", "apt", "cron", "root", "www", "postgres", "network", "timers", "sockets"),
    *("rescue", "reboot", "shutdown", "sleep", "graphical", "basic", "local", "remote", "multi", "swap", "time"),
)

# With `_deploy` behind it, it must fit into the 32 characters of an account (useradd(8)).
_ACCOUNT = re.compile(r"[a-z][a-z0-9_]{0,23}")

# What the last word of a name promises about its number: the least and the greatest value.
RANGES = {
    "port": (1, 65535),
    "concurrency": (1, 1024),
    "workers": (1, 1024),
    "threads": (1, 1024),
    "kept": (1, 1000),
    "deliveries": (1, 1000),
    "attempts": (0, 100_000),
    "seconds": (0, 10 * 365 * 24 * 3600),
    "days": (0, 100 * 365),
    "hours": (1, 100 * 365 * 24),
    "percent": (1, 100),
    "rows": (0, 10**9),
    "mb": (1, 2**31),
}

# Where that is not enough: a page that may take no time is none.
LEAST = {
    "gunicorn_timeout_seconds": 1,
    "site_release_hook_timeout_seconds": 1,
    "preflight_host_memory_mb": 0,
    "backup_kept_days": 1,
    "backup_full_days": 1,
    "backup_archive_seconds": 1,
    "backup_timeout_seconds": 60,
    "firewall_confirm_seconds": 5,
}

# The secrets that an inventory may bring, each with what it must be made of: Flower can compare ASCII only (it gives
# two texts to `hmac.compare_digest`), PostgreSQL changes other signs before it compares, and the token goes through a
# header.
SECRETS: Mapping[str, re.Pattern[str] | None] = {
    "vault_site_secret_key": None,
    "vault_site_secret_key_before": None,
    "vault_redis_password": None,
    "vault_rabbitmq_password": None,
    # Debian's package makes another one of one that looks as if Erlang had made it.
    "vault_rabbitmq_cookie": re.compile(r"(?![A-Z]{20}\Z)[A-Za-z0-9]{20,255}"),
    "vault_broker_password": None,
    "vault_database_password": re.compile(r"[ -~]+"),
    "vault_database_owner_password": re.compile(r"[ -~]+"),
    "vault_flower_password": re.compile(r"[ -~]+"),
    "vault_flower_cookie_secret": None,
    "vault_site_admin_password": None,
    "vault_site_health_token": re.compile(r"[!-~]+"),
    "vault_site_member_authority": re.compile(r"[A-Za-z0-9+/=\s-]+"),
    "vault_site_metrics_token": re.compile(r"[!-~]+"),
    # Part of an address, of a cookie and of what nginx reads.
    "vault_site_maintenance_token": re.compile(r"[A-Za-z0-9_-]{20,}"),
    "vault_nginx_acme_eab_key": re.compile(r"[A-Za-z0-9_=-]+"),
    "vault_backup_passphrase": re.compile(r"[!-~]+"),
    "vault_backup_s3_key": re.compile(r"[!-~]+"),
    # A mail server is told it as ASCII.
    "vault_site_alerts_smtp_password": re.compile(r"[ -~]+"),
}

# Brokers that the bundle installs, and how the address of another one begins.
BROKER_SCHEMES = ("amqp", "amqps", "redis", "rediss")
BROKER_EXAMPLE = "site_broker: amqps://site@mq.mysite.org/site        (or redis, or rabbitmq)"

# What `site_task_guarantees` may give to a task.
GUARANTEES = ("at_least_once", "at_most_once", "project")

# Linux: MAX_ARG_STRLEN, for `name=value` and the NUL at its end, in bytes.
LONGEST_VARIABLE = 128 * 1024 - 1
# systemd drops a whole file of which one value is no UTF-8, and counts what Unicode has set aside as none among it
# (tried with its versions 252 and 257).
_NONCHARACTERS = "".join(chr(0x10000 * plane + last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
_NOT_CARRIED = re.compile(f"[\0\ud800-\udfff\ufdd0-\ufdef{_NONCHARACTERS}]")

# What must be less than what, why, and values that are right.
ORDER = (
    (
        "site_task_soft_time_limit_seconds",
        "site_task_time_limit_seconds",
        "a task would be killed before it is asked to end",
        (1500, 1800),
    ),
    (
        "celery_beat_max_interval_seconds",
        "site_health_beat_seconds",
        "a healthy beat would look dead between two ticks",
        (5, 20),
    ),
)


class Site(Protocol):
    """What the rules read; `site_preflight` gives them the inventory, their tests a plain one."""

    @property
    def hosts(self) -> Sequence[str]:
        """Every host on which something of the site runs."""

    @property
    def members(self) -> Mapping[str, Sequence[str]]:
        """The hosts of each group that a playbook names."""

    @property
    def process_groups(self) -> Sequence[str]:
        """The groups whose hosts run the site's processes."""

    @property
    def process_names(self) -> Sequence[str]:
        """What the processes of every site are called."""

    @property
    def group_names(self) -> Sequence[str]:
        """Every group that the inventory has."""

    @property
    def hosts_file(self) -> Place:
        """The file that says which host is in which group."""

    @property
    def names(self) -> Sequence[str]:
        """Every choice that the inventory makes."""

    def value(self, host: str, name: str) -> Any:
        """The value of a variable on a host; None where it is unknown."""

    def fault(self, host: str, name: str) -> str:
        """Why the value of a variable cannot be worked out; empty where it can."""

    def source(self, host: str) -> Path | None:
        """The folder of the project on this computer; None where it is not known yet."""

    def is_empty(self, host: str, name: str) -> bool:
        """Whether the inventory sets a variable to nothing."""

    def place(self, host: str, name: str) -> Place:
        """Where the variable is set, or where it should be."""

    def place_of_host(self, host: str) -> Place:
        """The line that brings a host into the inventory."""


def groups_have_hosts(site: Site) -> Iterator[Problem]:
    """Each part of the site has a host to run on, and one that need not is not merely misspelt."""
    unknown_groups = [name for name in site.group_names if name not in site.members]
    for group, hosts in site.members.items():
        if not hosts:
            near = nearest(group, unknown_groups)
            if group in OPTIONAL and (group in site.group_names or not near):
                continue  # it is not wanted here
            hint = f" The inventory has a group `{near}`; no playbook knows it." if near else ""
            yield Problem(
                f"The group `{group}` has no host.{hint}",
                site.hosts_file,
                HOSTS_EXAMPLE.replace("{group}", group),
            )


def single_hosts(site: Site) -> Iterator[Problem]:
    """There is one Flower."""
    for group, reason in SINGLE.items():
        hosts = site.members.get(group, ())
        if len(hosts) > 1:
            yield Problem(
                f"The group `{group}` has {len(hosts)} hosts ({', '.join(hosts)}), and must have one: {reason}.",
                site.place_of_host(hosts[-1]),
                HOSTS_EXAMPLE.replace("{group}", group),
            )


def example_is_edited(site: Site) -> Iterator[Problem]:
    """The example host and the example domain gave way to real ones."""
    for host in site.hosts:
        address = _text(site, host, "ansible_host")
        if is_example(address or host):
            yield Problem(
                f"`{address or host}` is the host of the example: put your own there.",
                site.place(host, "ansible_host") if address else site.place_of_host(host),
                "ansible_host: 10.1.2.3        (or its name)",
            )
        domain = _text(site, host, "site_domain")
        if domain and is_example(domain):
            yield Problem(
                f"`site_domain` is still {domain}, the name of the example: put the name that "
                "people type into a browser.",
                site.place(host, "site_domain"),
                "site_domain: www.mysite.org",
            )


def domains_are_names(site: Site) -> Iterator[Problem]:
    """A domain is a host's name: no scheme, no port, no path."""
    for host in site.hosts:
        aliases = site.value(host, "site_domain_aliases")
        named = [("site_domain", site.value(host, "site_domain"))]
        named += [("site_domain_aliases", alias) for alias in (aliases if isinstance(aliases, list) else [])]
        for name, value in named:
            if isinstance(value, str) and not _DOMAIN.match(value):
                example = "www.mysite.org" if name == "site_domain" else "[mysite.org]"
                yield Problem(
                    f"`{name}` holds `{value}`, which is no host name: no scheme, port, path, "
                    "space or underscore belongs there.",
                    site.place(host, name),
                    f"{name}: {example}",
                )


def source_is_a_project(site: Site) -> Iterator[Problem]:
    """The project is there, with manage.py or its settings in it."""
    for host in site.hosts:
        project, source = site.value(host, "site_project"), site.source(host)
        if not isinstance(project, dict) or not project["source"]:
            continue
        place = site.place(host, "site_source")
        folder = _text(site, host, "site_source_folder") or ""
        example = "site_source: /home/me/mysite        (on this computer)"
        fault, choice, right = fault_of(Origin.from_fact(project))
        if fault:
            yield Problem(fault, site.place(host, choice), right)
        elif source is None:
            continue  # it comes from elsewhere, and is fetched when all else is right
        elif not source.is_dir():
            yield Problem(
                f"`site_source` is {source}, and there is no such folder on this computer.",
                place,
                example,
            )
        elif not _is_inside(folder or "."):
            yield Problem(
                f"`site_source_folder` is `{folder}`; it must be a folder inside of {source}.",
                site.place(host, "site_source_folder"),
                "site_source_folder: src        (where manage.py is, below site_source)",
            )
        elif not _has_project(site, host, source, folder):
            below = [path.parent.name for path in sorted(source.glob("*/manage.py"))]
            module = _text(site, host, "site_settings_module")
            yield Problem(
                f"`site_source` is {source}, and there is no manage.py in {folder or 'it'}, nor the module `{module}`.",
                site.place(host, "site_source_folder") if folder else place,
                f"site_source_folder: {below[0]}        (where it is)" if below and not folder else example,
            )


def packages_are_said(site: Site) -> Iterator[Problem]:
    """It is known which packages the project needs; whether they go together is asked when all else is right."""
    for host in site.hosts:
        project, source = site.value(host, "site_project"), site.source(host)
        wanted = Wanted.from_fact(project, source) if isinstance(project, dict) and source else None
        if not wanted or not _has_project(site, host, wanted.source, wanted.folder):
            continue
        try:
            read_project(wanted)
        except LockError as error:
            yield Problem(str(error), site.place(host, error.choice), error.remedy)


def project_is_one(site: Site) -> Iterator[Problem]:
    """All hosts have the same release."""
    first, *others = site.hosts or [""]
    for host in others:
        if site.value(host, "site_project") != site.value(first, "site_project"):
            yield Problem(
                f"`{host}` has another project than `{first}`, or other packages (site_source, site_lock and its like, "
                "site_requirements): they are of one site.",
                site.place_of_host(host),
                "site_source: /home/me/mysite        (in group_vars/all, for all hosts)",
            )


def source_can_be_shipped(site: Site) -> Iterator[Problem]:
    """It is known what belongs to the project, and what every project needs is part of it."""
    for host in site.hosts:
        source = site.source(host)
        if not (source and source.is_absolute() and source.is_dir()):
            continue
        include, place = site.value(host, "site_source_include") or [], site.place(host, "site_source")
        if problem := _not_included(source, include, site.place(host, "site_source_include")):
            yield problem
            continue
        try:
            shipped = read_source(source, include).files
        except SourceError as error:
            yield Problem(str(error), place, error.remedy)
            continue
        name = os.path.normpath(Path(_text(site, host, "site_source_folder") or ".") / "manage.py")
        if name not in shipped and (source / name).is_file():
            yield Problem(
                f"git does not track {name} in {source}, so it would not be shipped.",
                place,
                f"git -C {source} add {name}",
            )


def _not_included(source: Path, include: Any, place: Place) -> Problem | None:
    """Refuse what is to be shipped too, and is not in the project."""
    for path in include if isinstance(include, list) else ():
        if not isinstance(path, str) or not _is_inside(path) or not (source / path).exists():
            return Problem(
                f"`site_source_include` names {path}, and there is no such file or folder inside of {source}.",
                place,
                "site_source_include: [static/dist]        (what a build has made, below site_source)",
            )
    return None


def files_can_be_made(site: Site) -> Iterator[Problem]:
    """What the inventory adds to a release is below the project, has its template, and is the same on all hosts."""
    example = "site_files: { config.yml: .files/config.yml.j2 }        (by its path in the project: from the inventory)"
    for host in site.hosts:
        chosen, project = site.value(host, "site_files"), site.value(host, "site_project")
        if not chosen or not isinstance(chosen, dict) or not isinstance(project, dict):
            continue
        place, beside, source = site.place(host, "site_files"), Path(str(project["beside"])), site.source(host)
        faults = [fault for each in chosen.items() if (fault := _fault_of_file(*each, beside, source))]
        if not faults and (fault := site.fault(host, "site_rendered_files")):
            faults = [f"a template that cannot be filled in: {fault}"]
        if not faults and site.value(host, "site_rendered_files") != site.value(site.hosts[0], "site_rendered_files"):
            faults = [f"what is another on {host} than on {site.hosts[0]}, and all hosts have the same release"]
        for fault in faults:
            yield Problem(f"`site_files` has {fault.removesuffix('.')}.", place, example)


def _fault_of_file(name: Any, template: Any, beside: Path, source: Path | None) -> str:
    """Why a file cannot be added to a release, empty where it can."""
    if not isinstance(name, str) or not _FILE.fullmatch(name) or not _is_inside(name) or name != os.path.normpath(name):
        return f"`{name}`, which is no path of a file inside of the project"
    if isinstance(template, str) and is_read_as_inventory(template):
        return f"`{name}` from {template}, which Ansible would read as a part of the inventory: a dot comes first"
    if not isinstance(template, str) or not (beside / template).is_file():
        return f"`{name}` from {beside / str(template)}, and there is no such file on this computer"
    if source is None:
        return ""
    for folder in [*Path(name).parents][:-1]:
        if (source / folder).is_symlink() or (source / folder).is_file():
            return f"`{name}`, and {folder} of the project is no folder of its own"
    return f"`{name}`, which is a folder of the project" if (source / name).is_dir() else ""


def wheelhouse_is_apart(site: Site) -> Iterator[Problem]:
    """Ansible does not take the wheels for hosts, and they are in a folder."""
    for host in site.hosts:
        chosen, folder = _text(site, host, "site_wheelhouse"), _text(site, host, "site_wheelhouse_folder")
        if not chosen or not folder:
            continue
        if is_read_as_inventory(chosen):
            fault = f"`site_wheelhouse` is `{chosen}`, which Ansible would read as a part of the inventory."
        elif Path(folder).exists() and not Path(folder).is_dir():
            fault = f"`site_wheelhouse` is {folder}, and that is no folder."
        else:
            continue
        yield Problem(
            fault,
            site.place(host, "site_wheelhouse"),
            "site_wheelhouse: .wheelhouse        (what has a dot first it leaves alone; or an absolute path)",
        )


def application_is_one(site: Site) -> Iterator[Problem]:
    """The project is called in one way."""
    for host in site.hosts:
        if "site_wsgi_application" in site.names and _text(site, host, "site_asgi_application"):
            yield Problem(
                "`site_asgi_application` is set, and so is `site_wsgi_application`: web processes call one of them, "
                "and that of ASGI answers all.",
                site.place(host, "site_wsgi_application"),
                "site_asgi_application: config.asgi:application        (without site_wsgi_application)",
            )


def modules_exist(site: Site) -> Iterator[Problem]:
    """The settings, the Celery app and the application of the web processes are modules of the project."""
    for host in site.hosts:
        kind = "asgi" if _text(site, host, "site_asgi_application") else "wsgi"
        examples = {
            "site_settings_module": "TimeOut.settings",
            "site_celery_app": "TimeOut",
            f"site_{kind}_application": f"TimeOut.{kind}:application",
        }
        source, folder = site.source(host) or Path(), _text(site, host, "site_source_folder") or ""
        has_project = site.source(host) is not None and _has_project(site, host, source, folder)
        given = [(name, name, _text(site, host, name), f"{name}: {example}") for name, example in examples.items()]
        for choice in _own_environments(site):
            environment = site.value(host, choice)
            value = environment.get("DJANGO_SETTINGS_MODULE") if isinstance(environment, dict) else None
            example = f"{choice}: {{ DJANGO_SETTINGS_MODULE: TimeOut.settings }}"
            given.append((choice, f"{choice}.DJANGO_SETTINGS_MODULE", value, example))
        for choice, name, value, example in given:
            if not isinstance(value, str):
                continue
            module, _, attribute = value.partition(":")
            if not _MODULE.match(module) or (":" in value and not _MODULE.match(attribute)):
                fault = f"`{name}` is `{value}`, which is not how Python names a module."
            elif has_project and not _has_module(site, host, source, folder, module):
                fault = f"`{name}` is `{value}`, and {source / folder} has no module `{module}`."
            else:
                continue
            yield Problem(fault, site.place(host, choice), example)


def site_name_is_one(site: Site) -> Iterator[Problem]:
    """What a site is called can be a part of the names of units, folders and databases, and is nobody else's."""
    # The first word of a process of every site: `celery-worker` would be the command `worker` of one called so.
    own = {name.partition("-")[0] for name in site.process_names}
    for host in site.hosts:
        name = _text(site, host, "site_name")
        if name is None or (_SITE.fullmatch(name) and name not in {*RESERVED_SITES, *own}):
            continue
        fault = (
            "another thing on a host is called so"
            if _SITE.fullmatch(name)
            else ("it must be of small letters and digits, a letter first, 12 at most")
        )
        yield Problem(f"`site_name` is `{name}`; {fault}.", site.place(host, "site_name"), "site_name: shop")


def backups_are_of_one_site(site: Site) -> Iterator[Problem]:
    """What pgBackRest keeps is all that PostgreSQL has on a host, so the site called `default` alone has backups."""
    for host in site.members.get("database", ()):
        name, kept_in = _text(site, host, "site_name"), _text(site, host, "backup_repository")
        if name not in (None, "default") and kept_in not in (None, "none"):
            yield Problem(
                f"`backup_repository` is {kept_in}, and the site is called {name}: a backup is of all that "
                "PostgreSQL has on a host, and those of the site called default have it.",
                site.place(host, "backup_repository"),
                "backup_repository: none        (or site_name: default, where it is to be the one with backups)",
            )


def user_is_a_name(site: Site) -> Iterator[Problem]:
    """The account has a name that Debian, systemd and PostgreSQL take without quotes, and is not root."""
    for host in site.hosts:
        # Where nobody chooses it, it is made of the name of the site, which has a rule of its own.
        name = _text(site, host, "site_user") if "site_user" in site.names else None
        if name is not None and (name == "root" or not _ACCOUNT.fullmatch(name)):
            yield Problem(
                f"`site_user` is `{name}`; it must be a name of an account: 1 to 24 lower-case letters, digits and "
                "underscores, a letter first, and not root.",
                site.place(host, "site_user"),
                "site_user: mysite",
            )


def python_is_one(site: Site) -> Iterator[Problem]:
    """The Python that was chosen is a version that the site runs on, and a text: YAML takes 3.10 for 3.1."""
    for host in site.hosts:
        chosen = site.value(host, "site_python")
        if chosen and not (isinstance(chosen, str) and _PYTHON.fullmatch(chosen)):
            yield Problem(
                f"`site_python` is {json.dumps(chosen)}; it must be 3.11 or later, as two numbers in quotes.",
                site.place(host, "site_python"),
                'site_python: "3.13"',
            )


def pairs_are_in_order(site: Site) -> Iterator[Problem]:
    """Of two settings that belong together, the one that must be less is less."""
    for host in site.hosts:
        for lower, higher, reason, example in ORDER:
            low, high = _number(site, host, lower), _number(site, host, higher)
            if low is not None and high is not None and not low < high:
                set_one = lower if lower in site.names else higher
                yield Problem(
                    f"`{lower}` is {low} and must be less than `{higher}`, which is {high}: {reason}.",
                    site.place(host, set_one),
                    f"{lower}: {example[0]}\n{higher}: {example[1]}",
                )


def numbers_are_in_range(site: Site) -> Iterator[Problem]:
    """A number is what the last word of its name promises: a port, a count of processes."""
    for host in site.hosts:
        for name in site.names:
            word = name.rpartition("_")[2]
            number = _number(site, host, name) if word in RANGES else None
            if number is None:
                continue
            least, most = RANGES[word]
            least = LEAST.get(name, least)
            if not least <= number <= most:
                yield Problem(
                    f"`{name}` is {number}; it must be from {least} to {most}.",
                    site.place(host, name),
                    f"{name}: {max(least, 8000 if word == 'port' else 2)}",
                )


def time_zone_exists(site: Site) -> Iterator[Problem]:
    """The time zone is in the tz database, where this computer has one."""
    if not any(Path(folder).is_dir() for folder in zoneinfo.TZPATH):
        return
    for host in site.hosts:
        name = _text(site, host, "site_time_zone")
        if name is None:
            continue
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            yield Problem(
                f"`site_time_zone` is `{name}`, and the tz database has no such zone.",
                site.place(host, "site_time_zone"),
                "site_time_zone: Europe/Berlin",
            )


def hosts_reach_each_other(site: Site) -> Iterator[Problem]:
    """Each of several hosts has an address by which the others reach it, and no other one has it."""
    taken: dict[str, str] = {}
    for host in site.hosts if len(site.hosts) > 1 else ():
        members = site.value(host, "site_members")
        if not isinstance(members, Mapping):
            continue
        chosen = _text(site, host, "site_cluster_address")
        place = site.place(host, "site_cluster_address") if chosen else site.place_of_host(host)
        if fault := _fault_of_member(str(members.get(host, "")), taken):
            yield Problem(
                f"The other hosts of the site reach `{host}` by {members.get(host)}, {fault}.",
                place,
                f"{host}: {{ site_cluster_address: 10.0.0.5 }}        (in hosts.yml; best in a private network)",
            )
        taken[str(members.get(host, ""))] = host


def _fault_of_member(address: str, taken: Mapping[str, str]) -> str:
    """Why hosts of a site do not reach another one by an address; empty where they do."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "which is no address: names may change, and a firewall knows none"
    if found.is_loopback or found.is_unspecified or found.is_multicast:
        return "which is not the address of a host for another one"
    return f"and `{taken[address]}` by the same" if address in taken else ""


def data_is_where_it_is_used(site: Site) -> Iterator[Problem]:
    """What a page writes and a task reads is in a folder that both hosts have."""
    hosts = list(dict.fromkeys(host for group in site.process_groups for host in site.members.get(group, ())))
    for host in hosts if len(hosts) > 1 else ():
        folders = site.value(host, "site_data_folders")
        if folders and isinstance(folders, list) and site.value(host, "site_data_shared") is False:
            yield Problem(
                f"`site_data_folders` has {', '.join(map(str, folders))}, and the site's processes are on "
                f"{len(hosts)} hosts: what one of them writes there the others do not see.",
                site.place(host, "site_data_folders"),
                "site_data_shared: true        (where you have mounted the same storage on each of them)",
            )
            return


def maintenance_is_of_all_hosts(site: Site) -> Iterator[Problem]:
    """A deploy that lets people wait does so on its host alone."""
    for host in site.hosts if len(site.hosts) > 1 else ():
        if _text(site, host, "site_migrate") == "maintenance":
            yield Problem(
                "`site_migrate` is maintenance, and the site has several hosts: on each but one people would go on "
                "while the database changes.",
                site.place(host, "site_migrate"),
                "site_migrate: guarded        (or playbooks/maintenance.yml -e state=on, then a deploy with "
                "-e site_migrate=unguarded, then -e state=off)",
            )
            return


def broker_is_one(site: Site) -> Iterator[Problem]:
    """The broker is one of the bundle's, or has an address; its password stands where secrets do."""
    for host in site.hosts:
        broker, before = _text(site, host, "site_broker"), site.value(host, "site_broker_before")
        if broker is None:
            continue
        if fault := _fault_of_broker(broker, has_password=bool(site.value(host, "vault_broker_password"))):
            yield Problem(f"`site_broker` {fault}.", site.place(host, "site_broker"), BROKER_EXAMPLE)
        if before == broker:
            yield Problem(
                f"`site_broker_before` is {before}, and so is `site_broker`: nothing is to be moved.",
                site.place(host, "site_broker_before"),
                "site_broker_before: none",
            )


def _fault_of_broker(broker: str, *, has_password: bool) -> str:
    """Why something is no broker, without its password; empty where it is one."""
    if broker in OWN_BROKERS:
        return "is a broker of the bundle, and `vault_broker_password` is for another one's" if has_password else ""
    scheme, _, rest = broker.partition("://")
    if not rest or not re.fullmatch(r"[a-z]+", scheme):
        near = nearest(broker, OWN_BROKERS)
        return f"is none: it is redis, rabbitmq, or an address{f'; did you mean {near}?' if near else ''}"
    if scheme not in BROKER_SCHEMES:
        return f"begins with {scheme}://; tested are {', '.join(f'{each}://' for each in BROKER_SCHEMES)}"
    user, at, place = rest.rpartition("@")
    if ":" in user:
        return "has a password in it, and inventories are read by many: it is `vault_broker_password`"
    if has_password and not (at and user):
        return "has no user, and `vault_broker_password` is the password of one: amqps://site@mq.mysite.org/site"
    if not re.fullmatch(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s?#;]*)?", place):
        return "has no host where an address has one"
    return ""


def environment_can_be_passed_on(site: Site) -> Iterator[Problem]:
    """The environment is names and texts that arrive in a process as they are written."""
    for choice in ("site_environment", *_own_environments(site)):
        example = f'{choice}: {{ SENTRY_DSN: "https://key@sentry.mysite.org/1" }}'
        yield from _faulty_entries(site, choice, _fault_of_variable, example)


def guarantees_are_known(site: Site) -> Iterator[Problem]:
    """Each task that the inventory gives a guarantee gets one that there is."""
    for host, name, value in _entries(site, "site_task_guarantees"):
        if value not in GUARANTEES:
            yield Problem(
                f"`site_task_guarantees` gives `{value}` to `{name}`; there are {', '.join(GUARANTEES)}.",
                site.place(host, "site_task_guarantees"),
                'site_task_guarantees: { "mail.tasks.*": at_most_once }',
            )


def settings_are_settings(site: Site) -> Iterator[Problem]:
    """What is laid over the settings of the project has the names of settings, and values that JSON can carry."""
    example = "site_settings: { LANGUAGE_CODE: de, DATA_UPLOAD_MAX_NUMBER_FIELDS: 5000 }"
    yield from _faulty_entries(site, "site_settings", _fault_of_setting, example)
    for host in site.hosts:
        # It is one variable of each process.
        settings = site.value(host, "site_settings")
        if len(f"CELERIAC_SETTINGS={json.dumps(settings, default=str)}") > LONGEST_VARIABLE:
            yield Problem(
                f"`site_settings` is too long: as JSON it has at most {LONGEST_VARIABLE} bytes.",
                site.place(host, "site_settings"),
                "site_settings: { LANGUAGE_CODE: de }        (what is larger belongs into the project)",
            )


def release_decides_for_itself(site: Site) -> Iterator[Problem]:
    """What a release sets for its own folders is set nowhere else: it would win, and the release be without it."""
    for host in site.hosts:
        own = _own_environments(site)
        for choice in ("site_environment", "site_settings", *own):
            given = site.value(host, choice)
            for name, example in _OF_A_RELEASE.items():
                allowed = name == "DJANGO_SETTINGS_MODULE" and choice in own
                if isinstance(given, dict) and name in given and not allowed:
                    yield Problem(
                        f"`{choice}` has `{name}`, which each release sets to its own.",
                        site.place(host, choice),
                        example,
                    )


def data_folders_are_names(site: Site) -> Iterator[Problem]:
    """What outlives a release is in folders of its own, and what nginx serves is among them."""
    for host in site.hosts:
        folders = site.value(host, "site_data_folders")
        if not isinstance(folders, list):
            continue
        place, example = site.place(host, "site_data_folders"), "site_data_folders: [media, keys]"
        for folder in folders:
            if isinstance(folder, str) and not _FOLDER.fullmatch(folder):
                yield Problem(
                    f"`site_data_folders` holds `{folder}`; it must be the name of a folder below "
                    f"{site.value(host, 'site_data')}: letters, digits, and `_`, `-` or `.` behind the first.",
                    place,
                    example,
                )
        private = site.value(host, "site_private_folders")
        served = {"site_private_folders": private if isinstance(private, list) else []}
        if _text(site, host, "site_media_url"):
            served["site_media_url"] = ["media"]
        parts = site.value(host, "site_media_folders")
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, str) and not all(map(_FOLDER.fullmatch, part.split("/"))):
                yield Problem(
                    f"`site_media_folders` holds `{part}`; it must be the path of a folder below "
                    f"{site.value(host, 'site_data')}/media: pub, or pub/pictures.",
                    site.place(host, "site_media_folders"),
                    "site_media_folders: [pub]",
                )
        if parts and "site_media_url" not in served:
            yield Problem(
                "`site_media_folders` is set and `site_media_url` is not: nothing of them is served.",
                site.place(host, "site_media_folders"),
                "site_media_url: /media/",
            )
        for name, wanted in served.items():
            for folder in wanted:
                if folder not in folders:
                    yield Problem(
                        f"`{name}` is for the folder `{folder}`, and `site_data_folders` has none of this name.",
                        site.place(host, name),
                        f"site_data_folders: [{', '.join([*map(str, folders), str(folder)])}]",
                    )


def addresses_of_files_are_paths(site: Site) -> Iterator[Problem]:
    """What nginx serves by itself is below a path of its own."""
    examples = {"site_static_url": "site_static_url: /static/", "site_media_url": "site_media_url: /media/"}
    for host in site.hosts:
        taken = list(_TAKEN_PATHS)
        for name in examples:
            path = _text(site, host, name)
            if not path:
                continue
            if not _URL_PATH.fullmatch(path):
                fault = "which is no path with a slash at both ends, of letters, digits, `_`, `-`, `.` and `~`"
            elif near := [other for other in taken if path.startswith(other) or other.startswith(path)]:
                fault = f"and {near[0]} is another's: neither may be below the other"
            else:
                taken.append(path)
                continue
            yield Problem(f"`{name}` is `{path}`, {fault}.", site.place(host, name), examples[name])


def hooks_are_commands(site: Site) -> Iterator[Problem]:
    """Each hook is a command at a point that a release has."""
    for host in site.hosts:
        hooks = site.value(host, "site_release_hooks")
        for fault in faults_of_hooks(hooks) if isinstance(hooks, dict) else ():
            yield Problem(
                f"`site_release_hooks` {fault}.",
                site.place(host, "site_release_hooks"),
                "site_release_hooks:\n"
                "  before_switch: [python manage.py check_data]\n"
                "  after_record: [{ command: python manage.py tell_everybody, timeout_seconds: 30 }]",
            )


def commands_are_words(site: Site) -> Iterator[Problem]:
    """A step that is a list of commands has each as a list of words; those of manage.py begin with its command."""
    examples = {
        "site_build_commands": "site_build_commands: [[npm, ci], [npm, run, build]]",
        "site_migrate_commands": "site_migrate_commands: [[migrate], [createcachetable]]",
        "site_static_commands": "site_static_commands: [[compress]]",
    }
    for host in site.hosts:
        for name, example in examples.items():
            commands = site.value(host, name)
            for number, words in enumerate(commands if isinstance(commands, list) else (), start=1):
                if fault := _fault_of_words(words, of_manage=name != "site_build_commands"):
                    yield Problem(f"`{name}` has as number {number} {fault}.", site.place(host, name), example)


def findings_have_ids(site: Site) -> Iterator[Problem]:
    """What is ignored of Django's checks is named by its whole id."""
    for host in site.hosts:
        ids = site.value(host, "site_check_ignore")
        for each in ids if isinstance(ids, list) else ():
            if isinstance(each, str) and not re.fullmatch(r"\w+\.[A-Z]\d+", each):
                yield Problem(
                    f"`site_check_ignore` holds `{each}`, and no finding of Django's checks has such an id.",
                    site.place(host, "site_check_ignore"),
                    "site_check_ignore: [security.W004]",
                )


def secrets_can_be_given(site: Site) -> Iterator[Problem]:
    """A secret is a text that a person can type, and that arrives wherever it is asked for."""
    for host in site.hosts:
        for name, pattern in SECRETS.items():
            value = site.value(host, name)
            if value is None and not site.is_empty(host, name):
                continue
            if not isinstance(value, str | None):
                fault = "is no text: put it in quotes, or YAML takes it for a number"
            elif not value:
                fault = "is empty"
            elif not value.isprintable():
                fault = "has a character that cannot be typed, such as a newline"
            elif pattern and not pattern.fullmatch(value):
                fault = "has a character that is not on every keyboard: use letters, digits and signs of ASCII"
            else:
                continue
            yield Problem(f"`{name}` {fault}.", site.place(host, name), f'{name}: "correct-horse-battery-staple"')


def flower_username_is_one(site: Site) -> Iterator[Problem]:
    """The name for Flower is what a browser can send before the colon (RFC 7617)."""
    for host in site.hosts:
        name = site.value(host, "site_flower_username")
        if isinstance(name, str) and not re.fullmatch(r"[ -9;-~]+", name):
            yield Problem(
                f"`site_flower_username` is `{name}`; it must be of ASCII letters, digits and signs, without a colon.",
                site.place(host, "site_flower_username"),
                "site_flower_username: admin",
            )


def login_paths_are_paths(site: Site) -> Iterator[Problem]:
    """The form of a log-in is a path, as nginx compares it: without the host and the query."""
    for host in site.members.get("web", ()):
        paths = site.value(host, "site_login_paths")
        for path in paths if isinstance(paths, list) else ():
            if isinstance(path, str) and not re.fullmatch(r"/[^\s\"\\?#]*", path):
                yield Problem(
                    f"`site_login_paths` holds `{path}`, which is no path: it begins with a slash, and has no host, "
                    "query, quote or space.",
                    site.place(host, "site_login_paths"),
                    "site_login_paths: [/admin/login/]",
                )


def pools_are_workers(site: Site) -> Iterator[Problem]:
    """Each pool of workers is one that can run, beside the plain one."""
    for host in site.members.get("workers", ()):
        plain = {key: site.value(host, f"celery_worker_{key}") for key in POOL}
        place = site.place(host, "celery_worker_pools")
        pools = list(_chosen(site, host, "celery_worker_pools"))
        # Which is worked out for all processes of the host: not for nothing, in each run.
        needs = (site.value(host, "site_memory_mb") or {}) if pools else {}
        for name, pool in pools:
            found = list(faults_of_pool(name, pool, plain, needs.get(f"celery-worker-{name}")))
            found += _faults_of_own_environment(name, pool)
            for fault, example in found:
                yield Problem(f"`celery_worker_pools` has `{name}`, {fault}.", place, example)
        own = {key: value for key, value in plain.items() if key in ("autoscale", "pool")}
        for fault, right in faults_together(own, {}):
            yield Problem(f"celery-worker is one {fault}.", site.place(host, "celery_worker_autoscale"),
                          f"celery_worker_{right}")  # fmt: skip


def commands_can_run(site: Site) -> Iterator[Problem]:
    """Each command that runs for ever is one, under a name that no other process has."""
    for host in site.hosts:
        settles = site.value(host, "site_health_timeout_seconds")
        for name, command in _chosen(site, host, "site_commands"):
            found = list(faults_of_command(name, command, site.process_groups, settles))
            for fault, example in [*found, *_faults_of_own_environment(name, command)]:
                yield Problem(f"`site_commands` has `{name}`, {fault}.", site.place(host, "site_commands"), example)


def timers_can_run(site: Site) -> Iterator[Problem]:
    """Each command that runs at times is one. Whether there is such a time the host is asked."""
    for host in site.hosts:
        for name, timer in _chosen(site, host, "site_timers"):
            found = list(faults_of_timer(name, timer, site.process_groups))
            for fault, example in [*found, *_faults_of_own_environment(name, timer)]:
                yield Problem(f"`site_timers` has `{name}`, {fault}.", site.place(host, "site_timers"), example)


def added_processes_have_a_host(site: Site) -> Iterator[Problem]:
    """The group of a process that the inventory adds is not empty."""
    for host in site.hosts:
        for choice, example in ADDED.items():
            for name, entry in _chosen(site, host, choice):
                group = entry.get("group", "workers") if isinstance(entry, dict) else ""
                if group in site.process_groups and not site.members.get(group):
                    yield Problem(
                        f"`{choice}` has `{name}`, which the group `{group}` runs, and that has no host.",
                        site.place(host, choice),
                        example,
                    )


def processes_have_names(site: Site) -> Iterator[Problem]:
    """No two processes have one name."""
    for host in site.hosts:
        if not any(site.value(host, choice) for choice in ADDED):
            continue  # the bundle's own are all different, and what each needs is not worked out for nothing
        names = [row["name"] for row in site.value(host, "site_all_processes") or ()]
        for name in sorted({name for name in names if names.count(name) > 1}):
            choice = next(choice for choice in ADDED if name in dict(_chosen(site, host, choice)))
            yield Problem(
                f"`{choice}` has `{name}`, and another process of the site is called so.",
                site.place(host, choice),
                ADDED[choice],
            )


def _faults_of_own_environment(name: str, entry: Any) -> list[Fault]:
    """Say what of the environment of a process that the inventory adds cannot be passed on."""
    environment = entry.get("environment") if isinstance(entry, dict) else None
    if environment is not None and not isinstance(environment, dict):
        return [("whose `environment` is no mapping", f"{name}: {{ environment: {{ NAME: value }} }}")]
    return [
        (f"with `{variable}` in `environment`, {fault}", f"{name}: {{ environment: {{ NAME: value }} }}")
        for variable, value in (environment or {}).items()
        if (fault := _fault_of_variable(str(variable), value))
    ]


def memory_limits_suffice(site: Site) -> Iterator[Problem]:
    """A limit is written as systemd reads it, and a process can live with it."""
    for host in site.hosts:
        for process in site.value(host, "site_processes") or ():
            plain = process.removeprefix(_prefix(site, host))
            names = [f"{plain.replace('-', '_')}_memory_{limit}" for limit in ("high", "max")]
            for name in (name for name in names if name in site.names):
                needs = (site.value(host, "site_memory_mb") or {}).get(plain)
                value = site.value(host, name)
                if fault := fault_of_limit(value, needs):
                    yield Problem(
                        f"`{name}` is {value}, {fault}.",
                        site.place(host, name),
                        f"{name}: {2 * needs if needs else 512}M        (or infinity, for no limit)",
                    )


def connections_suffice(site: Site) -> Iterator[Problem]:
    """PostgreSQL lets in all that may be connected at once, a deploy included."""
    for host in site.members.get("database", ()):
        settings, environment = site.value(host, "postgresql_settings"), site.value(host, "site_environment")
        elsewhere = isinstance(environment, dict) and "DATABASE_URL" in environment
        if not isinstance(settings, dict) or "max_connections" not in settings or elsewhere:
            continue
        needs = site.value(host, "site_database_connections") or {}
        chosen, needed = str(settings["max_connections"]), sum(needs.values())
        parts = ", ".join(f"{count} {name}" for name, count in needs.items())
        if not chosen.isdecimal():
            fault = "that is no whole number"
        elif int(chosen) < needed:
            fault = (
                f"the site may have {needed} connections ({parts}): each thread of gunicorn has one and each task, "
                "and in a deploy there are two sets of them"
            )
        else:
            continue
        yield Problem(
            f"`postgresql_settings` has `max_connections` {chosen}, and {fault}.",
            site.place(host, "postgresql_settings"),
            f"postgresql_settings: {{ max_connections: {max(100, needed)} }}        (or without it: it is derived)",
        )


def certificate_is_complete(site: Site) -> Iterator[Problem]:
    """A certificate comes with its key, both exist here, and `nginx_tls` asks for them."""
    paths = ("nginx_tls_certificate", "nginx_tls_key")
    example = (
        "nginx_tls: certificate\n"
        "nginx_tls_certificate: /home/me/tls/fullchain.pem\n"
        "nginx_tls_key: /home/me/tls/privkey.pem"
    )
    for host in site.members.get("web", ()):
        wanted = site.value(host, "nginx_tls") == "certificate"
        given = {name: _text(site, host, name) for name in paths}
        present = [name for name in paths if given[name]]
        if present and not wanted:
            yield Problem(
                f"`{present[0]}` is set, and `nginx_tls` does not ask for a certificate: it would not be used.",
                site.place(host, present[0]),
                example,
            )
        for name in paths if present or wanted else ():
            path = given[name]
            if not path:
                yield Problem(
                    f"`{name}` is missing: a certificate and its key come together.",
                    site.place(host, name),
                    example,
                )
            elif not Path(path).is_file():
                yield Problem(
                    f"`{name}` is {path}, and there is no such file on this computer.",
                    site.place(host, name),
                    example,
                )


def certificate_fits(site: Site) -> Iterator[Problem]:
    """The certificate and its key are a pair that browsers will take for this site."""
    options = ("nginx_tls_certificate", "nginx_tls_key")
    examples = {
        "nginx_tls_certificate": "nginx_tls_certificate: /home/me/tls/fullchain.pem        (renewed, for all names)",
        "nginx_tls_key": "nginx_tls_key: /home/me/tls/privkey.pem        (the one that the certificate was made with)",
    }
    for host in site.members.get("web", ()):
        paths = [Path(_text(site, host, name) or "") for name in options]
        if site.value(host, "nginx_tls") != "certificate" or not all(map(Path.is_file, paths)):
            continue
        aliases = site.value(host, "site_domain_aliases")
        names = [site.value(host, "site_domain"), *(aliases if isinstance(aliases, list) else ())]
        certificate, key = (path.read_bytes() for path in paths)
        for name, fault in faults_of(certificate, key, [each for each in names if isinstance(each, str)]):
            yield Problem(
                f"`{name}` is {paths[options.index(name)]}, and that {fault}.", site.place(host, name), examples[name]
            )


def acme_can_give_one(site: Site) -> Iterator[Problem]:
    """What is asked for of an authority is something that it can give, to the host that asks."""
    hosts = [host for host in site.members.get("web", ()) if site.value(host, "nginx_tls") == "acme"]
    if len(hosts) > 1:
        yield Problem(
            f"`nginx_tls` is acme, and the group `web` has {len(hosts)} hosts: the authority would ask one of them "
            "what another has said.",
            site.place(hosts[0], "nginx_tls"),
            "nginx_tls: certificate",
        )
    for host in hosts[:1]:
        yield from _asks_an_authority(site, host)
        yield from _asks_for_names(site, host)


def _asks_an_authority(site: Site, host: str) -> Iterator[Problem]:
    """Refuse an authority that is none, and what it cannot know us by."""
    directory = _text(site, host, "nginx_acme_directory")
    if directory and not re.fullmatch(r"https://[^\s/\"'\\]+(/[^\s\"'\\]*)?", directory):
        yield Problem(
            f"`nginx_acme_directory` is `{directory}`, which is no address of an authority: it begins with https://.",
            site.place(host, "nginx_acme_directory"),
            f"nginx_acme_directory: {LETS_ENCRYPT}directory",
        )
    email = _text(site, host, "nginx_acme_email")
    if email and not _E_MAIL.fullmatch(email):
        yield Problem(
            f"`nginx_acme_email` is `{email}`, which is no address for e-mail.",
            site.place(host, "nginx_acme_email"),
            "nginx_acme_email: admin@mysite.org",
        )
    key_id, key = _text(site, host, "nginx_acme_eab_key_id"), site.value(host, "vault_nginx_acme_eab_key")
    if key_id and re.search(r"\s", key_id):
        yield Problem(
            f"`nginx_acme_eab_key_id` is `{key_id}`; it has no space.",
            site.place(host, "nginx_acme_eab_key_id"),
            "nginx_acme_eab_key_id: kid-1",
        )
    yield from _half_a_log_in(
        site,
        host,
        {"nginx_acme_eab_key_id": key_id, "vault_nginx_acme_eab_key": key},
        "an authority knows its customers by both",
        'nginx_acme_eab_key_id: kid-1\nvault_nginx_acme_eab_key: "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajV"',
    )


def _half_a_log_in(site: Site, host: str, pair: Mapping[str, Any], why: str, example: str) -> Iterator[Problem]:
    """Refuse one of two choices that is there without the other.

    Args:
        site: all that is chosen.
        host: where.
        pair: the values of the two by their names.
        why: they belong together.
        example: both.
    """
    for name, other in (tuple(pair), tuple(pair)[::-1]):
        if pair[other] and not pair[name] and not site.is_empty(host, name):
            yield Problem(f"`{other}` is set, and `{name}` is not: {why}.", site.place(host, other), example)


def alerts_can_arrive(site: Site) -> Iterator[Problem]:
    """Who is told when something is wrong can be reached, and no password goes to a server in the clear."""
    for host in site.hosts:
        yield from _alerts_by_e_mail(site, host)
        webhook = _text(site, host, "site_alerts_webhook")
        if webhook and not re.fullmatch(r"https://[^\s/@\"'\\]+(/[^\s\"'\\]*)?", webhook):
            # Not the address itself: it may be a secret.
            yield Problem(
                "`site_alerts_webhook` is no address that begins with https:// and has neither a space nor a quote.",
                site.place(host, "site_alerts_webhook"),
                "site_alerts_webhook: https://chat.mysite.org/hooks/abc",
            )


def _alerts_by_e_mail(site: Site, host: str) -> Iterator[Problem]:
    """Refuse an address, a server or a log-in by which no e-mail arrives."""
    to, server = _text(site, host, "site_alerts_email"), site.value(host, "site_alerts_smtp_server")
    user, password = _text(site, host, "site_alerts_smtp_user"), site.value(host, "vault_site_alerts_smtp_password")
    for name in ("site_alerts_email", "site_alerts_from"):
        address = _text(site, host, name)
        if address and not (_E_MAIL.fullmatch(address) and address.isascii()):
            yield Problem(
                f"`{name}` is `{address}`, which is no address for e-mail.",
                site.place(host, name),
                f"{name}: ops@mysite.org",
            )
    if to and server == "":
        yield Problem(
            "`site_alerts_email` is set, and `site_alerts_smtp_server` is not: nothing takes the e-mail.",
            site.place(host, "site_alerts_email"),
            "site_alerts_smtp_server: mail.mysite.org        (and its port, user and password)",
        )
    if server and isinstance(server, str) and not _DOMAIN.match(server):
        yield Problem(
            f"`site_alerts_smtp_server` is `{server}`, which is no name of a server; its port is a choice of its own.",
            site.place(host, "site_alerts_smtp_server"),
            "site_alerts_smtp_server: mail.mysite.org\nsite_alerts_smtp_port: 587",
        )
    yield from _half_a_log_in(
        site,
        host,
        {"site_alerts_smtp_user": user, "vault_site_alerts_smtp_password": password},
        "a server knows its users by both",
        'site_alerts_smtp_user: mysite\nvault_site_alerts_smtp_password: "zWNDZM6eQGHWpSRT"',
    )
    if user and site.value(host, "site_alerts_smtp_tls") == "none":
        yield Problem(
            "`site_alerts_smtp_user` is set, and `site_alerts_smtp_tls` is none: everybody on the way would read the "
            "password.",
            site.place(host, "site_alerts_smtp_tls"),
            "site_alerts_smtp_tls: starttls",
        )


def _asks_for_names(site: Site, host: str) -> Iterator[Problem]:
    """Refuse a name for which no authority gives a certificate over port 80."""
    directory, aliases = _text(site, host, "nginx_acme_directory") or "", site.value(host, "site_domain_aliases")
    named = [("site_domain", site.value(host, "site_domain"))]
    named += [("site_domain_aliases", alias) for alias in (aliases if isinstance(aliases, list) else [])]
    for choice, name in named:
        if not isinstance(name, str) or not _DOMAIN.match(name):
            continue
        if re.fullmatch(r"[0-9.]+", name):
            fault = "an address, and this client asks for names only"
        elif directory.startswith(LETS_ENCRYPTS) and ("." not in name or _INNER_NAME.search(name)):
            fault = "a name that only a network of yours knows, and the authority has to reach it"
        else:
            continue
        yield Problem(
            f"`nginx_tls` is acme, and `{choice}` holds `{name}`: {fault}.",
            site.place(host, choice),
            "nginx_tls: self_signed        (or nginx_acme_directory: with an authority of that network)",
        )


def backups_have_a_place(site: Site) -> Iterator[Problem]:
    """What backups are to be kept in is said whole, and can be."""
    for host in site.members.get("database", ()):
        kept_in = site.value(host, "backup_repository")
        if kept_in in BACKUP_AWAY:
            yield from _backups_away(site, host, kept_in)
        if kept_in == "local":
            yield from _backups_in_a_folder(site, host)
        if kept_in not in {"local", *BACKUP_AWAY}:
            continue
        for name, example in BACKUP_CALENDARS.items():
            value = _text(site, host, name)
            if value and not re.fullmatch(r"[A-Za-z0-9*:,./~ -]+", value):
                yield Problem(
                    f"`{name}` is `{value}`, which is no time of systemd.", site.place(host, name), f"{name}: {example}"
                )
        settings = site.value(host, "postgresql_settings")
        for name in ("archive_mode", "archive_command", "archive_timeout", "archive_library", "wal_level"):
            if isinstance(settings, dict) and name in settings:
                yield Problem(
                    f"`postgresql_settings` has `{name}`, and with `backup_repository` that is the backups' own.",
                    site.place(host, "postgresql_settings"),
                    "backup_repository: none        (or without the setting)",
                )


def _backups_away(site: Site, host: str, kept_in: str) -> Iterator[Problem]:
    for name, (pattern, example) in BACKUP_AWAY[kept_in].items():
        value = site.value(host, name)
        if site.fault(host, name) or (isinstance(value, str) and re.fullmatch(pattern, value)):
            continue
        shown = f" `{value}`" if value and not name.startswith("vault_") else ""
        fault = f"is{shown}, which it cannot be" if value else "is missing"
        yield Problem(
            f"`backup_repository` is {kept_in}, and `{name}` {fault}.", site.place(host, name), f"{name}: {example}"
        )


def _backups_in_a_folder(site: Site, host: str) -> Iterator[Problem]:
    folder = _text(site, host, "backup_folder")
    if folder is None:
        return
    if not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", folder) or os.path.normpath(folder) != folder:
        fault = "no path of a folder"
    elif any(f"{folder}/".startswith(f"{place}/") for place in BACKUP_NOT_HERE):
        fault = "where what makes backups cannot write, or what is backed up itself"
    else:
        return
    yield Problem(
        f"`backup_folder` is `{folder}`, {fault}.",
        site.place(host, "backup_folder"),
        "backup_folder: /var/lib/site-backup        (another disk may be mounted there)",
    )


def firewall_opens_ports(site: Site) -> Iterator[Problem]:
    """What a firewall is to open are ports, each for addresses."""
    for host in site.hosts:
        for entry in _open_ports(site, host):
            if found := fault_of_port(entry):
                what, example = found
                yield Problem(f"`firewall_open_ports` has {what}.", site.place(host, "firewall_open_ports"), example)


def firewall_does_not_contradict(site: Site) -> Iterator[Problem]:
    """A database that listens for other hosts is not closed to all of them."""
    for host in site.members.get("database", ()):
        settings, ports = site.value(host, "postgresql_settings"), _open_ports(site, host)
        listens = isinstance(settings, dict) and is_for_others(settings.get("listen_addresses"))
        if not listens or site.value(host, "firewall_enabled") is not True or any(map(fault_of_port, ports)):
            continue
        if not any(opens(entry, 5432) for entry in ports):
            yield Problem(
                "`postgresql_settings` lets PostgreSQL listen for other hosts, and the firewall lets none of them in.",
                site.place(host, "firewall_enabled"),
                "firewall_open_ports: [{ port: 5432, from: [10.0.0.5] }]        (or without listen_addresses)",
            )


def _open_ports(site: Site, host: str) -> list[Mapping[str, Any]]:
    chosen = site.value(host, "firewall_open_ports")
    return [entry for entry in chosen if isinstance(entry, dict)] if isinstance(chosen, list) else []


def certificate_files_exist(site: Site) -> Iterator[Problem]:
    """The extra CA certificates exist on this computer."""
    for host in site.hosts:
        files = site.value(host, "site_ca_certificates")
        for file in files if isinstance(files, list) else ():
            if isinstance(file, str) and not Path(file).is_file():
                yield Problem(
                    f"`site_ca_certificates` names {file}, and there is no such file on this computer.",
                    site.place(host, "site_ca_certificates"),
                    "site_ca_certificates: [/usr/local/share/ca-certificates/company.crt]",
                )


def way_back_is_said(site: Site) -> Iterator[Problem]:
    """What `playbooks/rollback.yml` does about migrations is its own word."""
    for host in site.hosts:
        said = site.value(host, "site_rollback_migrations")
        if said not in ("", None, "reverse"):
            yield Problem(
                f"`migrations` is {said}, and may be reverse, or left out.",
                site.place(host, "migrations"),
                "-e migrations=reverse",
            )
        accepts = str(site.value(host, "site_rollback_accept_loss")).lower()
        if accepts not in ("true", "false", "yes", "no"):
            yield Problem(
                f"`accept_loss` is {accepts}, and may be true, or left out.",
                site.place(host, "accept_loss"),
                "-e accept_loss=true",
            )


def maintenance_is_said(site: Site) -> Iterator[Problem]:
    """The words of `playbooks/maintenance.yml` are its own."""
    words = {"state": ("on", "off"), "processes": ("pause", "run")}
    for host in site.hosts:
        said = {name: site.value(host, f"site_maintenance_{name}") for name in words}
        for name, known in words.items():
            if said[name] not in ("", None, *known):
                yield Problem(
                    f"`{name}` is {said[name]}, and may be {' or '.join(known)}.",
                    site.place(host, name),
                    f"-e {name}={known[0]}",
                )
        if said["state"] == "off" and said["processes"] == "pause":
            yield Problem(
                "`state` is off, which lets all processes run, and `processes` is pause.",
                site.place(host, "processes"),
                "-e state=on -e processes=pause",
            )


def maintenance_page_exists(site: Site) -> Iterator[Problem]:
    """The page that people see in maintenance is a file here, and can be read as a text."""
    for host in site.members.get("web", ()):
        file = _text(site, host, "site_maintenance_page_file")
        if not file:
            continue
        try:
            Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            fault = "is no text in UTF-8" if isinstance(error, ValueError) else "cannot be read on this computer"
            yield Problem(
                f"`site_maintenance_page` is {file}, which {fault}.",
                site.place(host, "site_maintenance_page"),
                "site_maintenance_page: .files/maintenance.html        (HTML, from the folder of the inventory)",
            )


RULES: tuple[Rule, ...] = (
    groups_have_hosts,
    single_hosts,
    *ENGINE_RULES,
    *LOSS_RULES,
    example_is_edited,
    domains_are_names,
    source_is_a_project,
    source_can_be_shipped,
    packages_are_said,
    project_is_one,
    files_can_be_made,
    wheelhouse_is_apart,
    application_is_one,
    modules_exist,
    site_name_is_one,
    backups_are_of_one_site,
    user_is_a_name,
    python_is_one,
    pairs_are_in_order,
    time_zone_exists,
    hosts_reach_each_other,
    data_is_where_it_is_used,
    maintenance_is_of_all_hosts,
    broker_is_one,
    numbers_are_in_range,
    environment_can_be_passed_on,
    guarantees_are_known,
    settings_are_settings,
    release_decides_for_itself,
    data_folders_are_names,
    addresses_of_files_are_paths,
    hooks_are_commands,
    commands_are_words,
    findings_have_ids,
    secrets_can_be_given,
    flower_username_is_one,
    login_paths_are_paths,
    pools_are_workers,
    commands_can_run,
    timers_can_run,
    added_processes_have_a_host,
    processes_have_names,
    memory_limits_suffice,
    connections_suffice,
    certificate_is_complete,
    certificate_fits,
    acme_can_give_one,
    alerts_can_arrive,
    backups_have_a_place,
    certificate_files_exist,
    way_back_is_said,
    maintenance_is_said,
    maintenance_page_exists,
    firewall_opens_ports,
    firewall_does_not_contradict,
    *ENTRY_RULES,
)


def is_example(name: str) -> bool:
    """Whether a name or an address was set aside for documentation."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return bool(_EXAMPLE_NAME.search(name))
    return any(address in network for network in _EXAMPLE_NETWORKS)


def _own_environments(site: Site) -> list[str]:
    """Which choices of the inventory say what is in the environment of one process alone."""
    return [name for name in site.names if name.endswith("_environment") and name != "site_environment"]


def _entries(site: Site, choice: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield host, name and value of each entry of a choice that is a mapping."""
    for host in site.hosts:
        chosen = site.value(host, choice)
        for name, value in chosen.items() if isinstance(chosen, dict) else ():
            yield host, name, value


def _chosen(site: Site, host: str, choice: str) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a choice that is a mapping, on one host."""
    chosen = site.value(host, choice)
    for name, value in chosen.items() if isinstance(chosen, dict) else ():
        yield str(name), value


def _faulty_entries(site: Site, choice: str, fault_of: Callable[[str, Any], str], example: str) -> Iterator[Problem]:
    """Refuse the entries of a choice of which something says why they cannot be."""
    for host, name, value in _entries(site, choice):
        if fault := fault_of(str(name), value):
            yield Problem(f"`{choice}` has `{name}`, {fault}.", site.place(host, choice), example)


def _fault_of_variable(name: str, value: Any) -> str:
    """Why a variable cannot be passed on, empty where it can."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        return "which is no name of a variable"
    if value is None:
        needed = name.startswith("CELERIAC_") or name == "DJANGO_SETTINGS_MODULE"
        return "which is taken away, and the processes need it: leave it out" if needed else ""
    if isinstance(value, bool | float | datetime.date):
        # What was written (yes, 1.10) is lost by now.
        return "whose value YAML takes for a number, a date or a switch: put it in quotes"
    if not isinstance(value, str | int):
        return "whose value is no text"
    if _NOT_CARRIED.search(str(value)):
        return "whose value has a character that systemd does not pass on: NUL, or one that Unicode does not know"
    if len(f"{name}={value}".encode()) > LONGEST_VARIABLE:
        return f"whose value is too long: with its name a variable has at most {LONGEST_VARIABLE} bytes"
    return ""


def _fault_of_words(words: Any, *, of_manage: bool) -> str:
    """Why something is no command, empty where it is one; without its words, which may be secret."""
    if not isinstance(words, list):
        return "what is no list of words"
    if not words or words[0] == "":
        return "an empty command"
    if not all(isinstance(word, str | int) and not isinstance(word, bool) for word in words):
        return "a command with a word that YAML takes for something else: put it in quotes"
    if any(sign in str(word) for word in words for sign in "\0\n"):
        return "a command with a NUL or a newline in a word"
    if of_manage and not re.fullmatch(_IDENTIFIER, str(words[0])):
        return "what does not begin with a command of manage.py"
    return ""


def _is_inside(path: str) -> bool:
    """Whether a path leads to something inside of the folder that it begins in."""
    return not os.path.normpath(path).startswith(("/", ".."))


def _fault_of_setting(name: str, value: Any) -> str:
    """Why a setting cannot be laid over those of the project, empty where it can."""
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
        return "which is no name of a setting: those are of capital letters, digits and underscores"
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return "whose value has a date or a number that JSON does not know: put it in quotes"
    return ""


def _prefix(site: Site, host: str) -> str:
    """What the names of all units of the site begin with."""
    return _text(site, host, "site_prefix") or ""


def _has_project(site: Site, host: str, source: Path, folder: str) -> bool:
    """Whether a project is in a folder of a source: one that is published as a package may have no manage.py."""
    module = _text(site, host, "site_settings_module")
    has_command = (source / folder / "manage.py").is_file()
    return has_command or (module is not None and _has_module(site, host, source, folder, module))


def _has_module(site: Site, host: str, source: Path, folder: str, module: str) -> bool:
    """Whether a module is in a folder of a source, or comes there by `site_files`."""
    path = Path(folder, *module.split("."))
    added = site.value(host, "site_files")
    names = {Path(name) for name in added if isinstance(name, str)} if isinstance(added, dict) else set()
    return (
        (source / path).is_dir()
        or (source / path).with_suffix(".py").is_file()
        or not names.isdisjoint({path.with_suffix(".py"), path / "__init__.py"})
    )


def _text(site: Site, host: str, name: str) -> str | None:
    value = site.value(host, name)
    return value if isinstance(value, str) and value else None


def _number(site: Site, host: str, name: str) -> int | float | None:
    value = site.value(host, name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
