"""A wrong inventory is refused with words that help, and no host is touched."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.access import explain
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.bundle import Bundle, Option
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.names import example_of, nearest
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.problem import Place, Problem, line_of, report
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.rules import is_example
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.types import fault_of
from hypothesis import given
from hypothesis import strategies as st

CHOICES_FILE = "group_vars/all/main.yml"
HOSTS_FILE = "hosts.yml"


def choose(text: str) -> Callable[[Any], None]:
    """An edit: lines added to the choices."""
    return lambda inventory: inventory.choose(text)


def on_the_internet(text: str) -> Callable[[Any], None]:
    """An edit: lines added to the choices of a site that everybody can reach."""

    def edit(inventory: Any) -> None:
        inventory.extra.update(site_domain="www.mysite.org")
        inventory.choose(text)

    return edit


def in_hosts(old: str, new: str) -> Callable[[Any], None]:
    """An edit: the file of hosts, with something replaced."""

    def edit(inventory: Any) -> None:
        text = (inventory.folder / HOSTS_FILE).read_text()
        assert old in text
        inventory.hosts(text.replace(old, new))

    return edit


def spread(old: str, new: str, address: str = "10.0.0.2", more: str = "") -> Callable[[Any], None]:
    """An edit: a second host h2, with something replaced, an address for each, and more choices."""

    def edit(inventory: Any) -> None:
        in_hosts(old, new)(inventory)
        text = (inventory.folder / HOSTS_FILE).read_text()
        second = f"      site_cluster_address: 10.0.0.1\n    h2:\n      site_cluster_address: {address}\n"
        inventory.hosts(text.replace("  children:\n", f"{second}  children:\n", 1))
        inventory.choose(more)

    return edit


def extra(**variables: Any) -> Callable[[Any], None]:
    """An edit: `-e` on the command line."""
    return lambda inventory: inventory.extra.update(variables)


def with_template(text: str) -> Callable[[Any], None]:
    """An edit: a file that is added to each release, and its template."""

    def edit(inventory: Any) -> None:
        (inventory.folder / ".files").mkdir()
        (inventory.folder / ".files/config.j2").write_text(text)
        inventory.choose("site_files: { config.yml: .files/config.j2 }\n")

    return edit


def without_beat(text: str) -> Callable[[Any], None]:
    """An edit: lines added to the choices of a site whose group `beat` is empty."""

    def edit(inventory: Any) -> None:
        in_hosts("    beat: { hosts: { h1: } }\n", "    beat: {}\n")(inventory)
        inventory.choose(text)

    return edit


def two_web_hosts(text: str) -> Callable[[Any], None]:
    """An edit: lines added to the choices of a site with two web hosts."""

    def edit(inventory: Any) -> None:
        two = "h1: { site_cluster_address: 10.0.0.1 }, h2: { ansible_host: 10.0.0.2 }"
        in_hosts("web: { hosts: { h1: } }", f"web: {{ hosts: {{ {two} }} }}")(inventory)
        inventory.choose(text)

    return edit


def without_domain(inventory: Any) -> None:
    """An edit: nothing chosen at all."""
    (inventory.folder / CHOICES_FILE).write_text("---\n")


# A certificate of an authority that could be one of this network.
ACME = "nginx_tls: acme\nnginx_acme_directory: https://acme.mysite.test/directory\n"

# Backups in a store, all that must be said of it.
STORE = """\
backup_repository: s3
backup_s3_endpoint: s3.mysite.test:9000
backup_s3_bucket: backups
backup_s3_key_id: AKIA1
vault_backup_s3_key: "a/b+c="
"""

# Alerts by a server that asks for a log-in.
MAIL = """\
site_alerts_email: ops@mysite.test
site_alerts_smtp_server: mail.mysite.test
site_alerts_smtp_user: mysite
vault_site_alerts_smtp_password: "a \\"b' c$"
"""

# And on another host.
OTHER_HOST = """\
backup_repository: ssh
backup_ssh_host: backup.mysite.test:2222
backup_ssh_host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbc+/d
vault_backup_ssh_key: |
  -----BEGIN OPENSSH PRIVATE KEY-----
  b3BlbnNzaC1rZXktdjEAAAAA
  -----END OPENSSH PRIVATE KEY-----
"""

# What is wrong: the edit that makes it so, the file and line to name, what the message must say,
# and
# the right example.
WRONG: dict[str, tuple[Callable[[Any], None], str, str, str]] = {
    "migrations that go another way than back": (
        extra(migrations="yes"),
        "-e on the command line",
        "`migrations` is yes, and may be reverse",
        "-e migrations=reverse",
    ),
    "a loss that is half accepted": (
        extra(accept_loss="some"),
        "-e on the command line",
        "`accept_loss` is some, and may be true",
        "-e accept_loss=true",
    ),
    "maintenance that is neither on nor off": (
        extra(state="onn"),
        "-e on the command line",
        "`state` is onn, and may be on or off",
        "-e state=on",
    ),
    "maintenance with processes of another word": (
        extra(state="on", processes="stop"),
        "-e on the command line",
        "`processes` is stop, and may be pause or run",
        "-e processes=pause",
    ),
    "processes that pause when all is over": (
        extra(state="off", processes="pause"),
        "-e on the command line",
        "`state` is off, which lets all processes run",
        "-e state=on -e processes=pause",
    ),
    "page of the maintenance that is not there": (
        choose("site_maintenance_page: .files/page.html\n"),
        f"{CHOICES_FILE}:3",
        ".files/page.html, which cannot be read",
        "site_maintenance_page: .files/maintenance.html",
    ),
    "a pool without queues": (
        choose("celery_worker_pools: { mail: { concurrency: 1 } }\n"),
        f"{CHOICES_FILE}:3",
        "`mail`, which has no queues: celery-worker reads those",
        "celery_worker_pools: { mail: { queues: [mail], concurrency: 1 } }",
    ),
    "a pool that is the plain worker": (
        choose("celery_worker_pools: { default: { queues: [mail] } }\n"),
        f"{CHOICES_FILE}:3",
        "`default`, which is celery-worker itself",
        "celery_worker_pools: { mail: {",
    ),
    "a pool whose name is none": (
        choose("celery_worker_pools: { Mail_1: { queues: [mail] } }\n"),
        f"{CHOICES_FILE}:3",
        "`Mail_1`, which is no name",
        "celery_worker_pools: { mail: {",
    ),
    "a pool that is called like a release": (
        choose("celery_worker_pools: { mail-0123456789ab: { queues: [mail] } }\n"),
        f"{CHOICES_FILE}:3",
        "a part of which looks like the name of a release",
        "celery_worker_pools: { mail: {",
    ),
    "a misspelt option of a pool": (
        choose("celery_worker_pools: { mail: { queues: [mail], concurency: 1 } }\n"),
        f"{CHOICES_FILE}:3",
        "`mail`, with `concurency`, which none has",
        "{ mail: { queues: [mail], concurrency: 1 } }",
    ),
    "a pool of a kind that is not there": (
        choose("celery_worker_pools: { mail: { queues: [mail], pool: fork } }\n"),
        f"{CHOICES_FILE}:3",
        "with `pool` fork, which is none of prefork, threads, solo",
        "pool: prefork",
    ),
    "a pool that grows and does not": (
        choose("celery_worker_pools: { mail: { queues: [mail], concurrency: 1, autoscale: [8, 2] } }\n"),
        f"{CHOICES_FILE}:3",
        "it is one or the other",
        "autoscale: [8, 2]",
    ),
    "a pool that grows to less": (
        choose("celery_worker_pools: { mail: { queues: [mail], autoscale: [2, 8] } }\n"),
        f"{CHOICES_FILE}:3",
        "is not the most and the least",
        "autoscale: [8, 2]",
    ),
    "a pool with half a limit": (
        choose("celery_worker_pools: { mail: { queues: [mail], time_limit_seconds: 60 } }\n"),
        f"{CHOICES_FILE}:3",
        "with one of `time_limit_seconds` and",
        "time_limit_seconds: 3600, soft_time_limit_seconds: 3500",
    ),
    "a pool with limits that its tasks do not have": (
        choose(
            "celery_worker_pool: threads\ncelery_worker_pools:\n"
            "  mail: { queues: [mail], time_limit_seconds: 60, soft_time_limit_seconds: 50 }\n"
        ),
        f"{CHOICES_FILE}:4",
        "which a pool of threads has not",
        "pool: prefork",
    ),
    "a pool of green threads": (
        choose("celery_worker_pools: { mail: { queues: [mail], pool: gevent } }\n"),
        f"{CHOICES_FILE}:3",
        "with `pool` gevent, whose worker stands still as soon as it has no room",
        "pool: threads, concurrency: 50",
    ),
    "a worker of green threads": (
        choose("celery_worker_pool: gevent\n"),
        f"{CHOICES_FILE}:3",
        "`celery_worker_pool` must be one of prefork, threads, solo; `gevent` is none of them",
        "celery_worker_pool: prefork",
    ),
    "a pool with less memory than it needs": (
        choose("celery_worker_pools: { mail: { queues: [mail], concurrency: 1, memory_max: 60M } }\n"),
        f"{CHOICES_FILE}:3",
        "with `memory_max` 60M, and 105 MB are what it has at rest",
        "memory_max: 210M",
    ),
    "a pool with an environment that is none": (
        choose("celery_worker_pools: { mail: { queues: [mail], environment: { A: yes } } }\n"),
        f"{CHOICES_FILE}:3",
        "with `A` in `environment`, whose value YAML takes for",
        "environment: { NAME: value }",
    ),
    "a worker of threads that grows": (
        choose("celery_worker_pool: threads\ncelery_worker_autoscale: [8, 2]\n"),
        f"{CHOICES_FILE}:4",
        "a pool of threads cannot grow",
        "celery_worker_autoscale: [8, 2]",
    ),
    "a command without a command": (
        choose("site_commands: { consumer: { overlap: true } }\n"),
        f"{CHOICES_FILE}:3",
        "`site_commands` has `consumer`, which has no command",
        "site_commands: { consumer: { command: [document_consumer] } }",
    ),
    "a command of both kinds": (
        choose("site_commands: { consumer: { command: [a], program: [b] } }\n"),
        f"{CHOICES_FILE}:3",
        "it is one or the other",
        "{ command: [document_consumer] }",
    ),
    "a command that is a sentence": (
        choose("site_commands: { consumer: { command: document_consumer --all } }\n"),
        f"{CHOICES_FILE}:3",
        "whose `command` is no list of words",
        "command: [document_consumer]",
    ),
    "a program of the host": (
        choose("site_commands: { consumer: { program: [/usr/bin/consumer] } }\n"),
        f"{CHOICES_FILE}:3",
        "the name of a program of the virtualenv",
        "command: [document_consumer]",
    ),
    "a command with the name of another unit": (
        choose("site_commands: { nginx: { command: [a] } }\n"),
        f"{CHOICES_FILE}:3",
        "which is the name of another unit",
        "consumer:",
    ),
    "a command with the name of a process": (
        choose("site_commands: { flower: { command: [a] } }\n"),
        f"{CHOICES_FILE}:3",
        "`flower`, and another process of the site is called so",
        "consumer:",
    ),
    "a command and a timer of one name": (
        choose("site_commands: { a: { command: [a] } }\nsite_timers: { a: { command: [b], every: hourly } }\n"),
        f"{CHOICES_FILE}:3",
        "`a`, and another process of the site is called so",
        "consumer:",
    ),
    "a command with the name of a pool": (
        choose("celery_worker_pools: { a: { queues: [a] } }\nsite_commands: { celery-worker-a: { command: [a] } }\n"),
        f"{CHOICES_FILE}:4",
        "`celery-worker-a`, and another process",
        "consumer:",
    ),
    "a misspelt option of a command": (
        choose("site_commands: { a: { command: [a], overlaps: true } }\n"),
        f"{CHOICES_FILE}:3",
        "with `overlaps`, which none has",
        "overlap: true",
    ),
    "a command of a group that is none": (
        choose("site_commands: { a: { command: [a], group: webs } }\n"),
        f"{CHOICES_FILE}:3",
        "with `group` webs, which is none of workers, beat, web, monitor",
        "group: workers",
    ),
    "a command that settles too late": (
        choose("site_commands: { a: { command: [a], settle_seconds: 60 } }\n"),
        f"{CHOICES_FILE}:3",
        "which is not less than site_health_timeout_seconds, 30",
        "settle_seconds: 10",
    ),
    "a command that overlaps perhaps": (
        choose("site_commands: { a: { command: [a], overlap: maybe } }\n"),
        f"{CHOICES_FILE}:3",
        "which is neither true nor false",
        "overlap: true",
    ),
    "a command with an environment that is none": (
        choose("site_commands: { a: { command: [a], environment: { A: 1.5 } } }\n"),
        f"{CHOICES_FILE}:3",
        "`A` in `environment`, whose value YAML takes for",
        "environment: { NAME: value }",
    ),
    "a timer without a time": (
        choose("site_timers: { a: { command: [a] } }\n"),
        f"{CHOICES_FILE}:3",
        "`site_timers` has `a`, which does not say when: `every`",
        'every: "*:0/5"',
    ),
    "a timer whose time YAML takes for a number": (
        choose("site_timers: { a: { command: [a], every: 12:30:00 } }\n"),
        f"{CHOICES_FILE}:3",
        "which is no time of systemd: put it in quotes",
        'every: "*:0/5"',
    ),
    "a timer that ends late": (
        choose("site_timers: { a: { command: [a], every: hourly, time_limit_seconds: 0 } }\n"),
        f"{CHOICES_FILE}:3",
        "with `time_limit_seconds` 0, which is no whole number from 1",
        "time_limit_seconds: 3600",
    ),
    "a timer that catches up perhaps": (
        choose("site_timers: { a: { command: [a], every: hourly, catch_up: once } }\n"),
        f"{CHOICES_FILE}:3",
        "which is neither true nor false",
        "catch_up: false",
    ),
    "a command that no host runs": (
        without_beat("site_commands: { a: { command: [a], group: beat } }\n"),
        f"{CHOICES_FILE}:3",
        "`a`, which the group `beat` runs, and that has no host",
        "consumer:",
    ),
    "misspelt name": (
        choose("site_drain_secnds: 60\n"),
        f"{CHOICES_FILE}:3",
        "`site_drain_secnds`",
        "site_drain_seconds: 300",
    ),
    "wheels that Ansible takes for hosts": (
        choose("site_wheelhouse: wheelhouse\n"),
        f"{CHOICES_FILE}:3",
        "`site_wheelhouse` is `wheelhouse`, which Ansible would read as a part of the inventory",
        "site_wheelhouse: .wheelhouse",
    ),
    "backups without a store": (
        choose("backup_repository: s3\nbackup_s3_bucket: backups\nbackup_s3_key_id: a\nvault_backup_s3_key: b\n"),
        CHOICES_FILE,
        "`backup_repository` is s3, and `backup_s3_endpoint` is missing",
        "backup_s3_endpoint: s3.",
    ),
    "a store by its address": (
        choose(STORE.replace("s3.mysite.test:9000", "https://s3.mysite.test")),
        f"{CHOICES_FILE}:4",
        "`backup_s3_endpoint` is `https://s3.mysite.test`, which it cannot be",
        "backup_s3_endpoint: s3.",
    ),
    "a store without a key": (
        choose(STORE.replace('vault_backup_s3_key: "a/b+c="\n', "")),
        CHOICES_FILE,
        "`vault_backup_s3_key` is missing",
        "vault_backup_s3_key: ",
    ),
    "backups on a host that anybody may be": (
        choose(OTHER_HOST.replace("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbc+/d", "SHA256:abc")),
        f"{CHOICES_FILE}:5",
        "`backup_repository` is ssh, and `backup_ssh_host_key` is `SHA256:abc`, which it cannot be",
        "backup_ssh_host_key: ssh-ed25519 AAAAC3Nz",
    ),
    "backups on another host without a key": (
        choose(OTHER_HOST.partition("vault")[0]),
        CHOICES_FILE,
        "`backup_repository` is ssh, and `vault_backup_ssh_key` is missing",
        "vault_backup_ssh_key: ",
    ),
    "backups where nothing may write": (
        choose("backup_repository: local\nbackup_folder: /home/backups\n"),
        f"{CHOICES_FILE}:4",
        "`backup_folder` is `/home/backups`, where what makes backups cannot write",
        "backup_folder: /var/lib/site-backup",
    ),
    "backups in no folder": (
        choose("backup_repository: local\nbackup_folder: /mnt/../x\n"),
        f"{CHOICES_FILE}:4",
        "`backup_folder` is `/mnt/../x`, no path",
        "backup_folder: /var/lib/site-backup",
    ),
    "backups at no time": (
        choose('backup_repository: local\nbackup_files_calendar: "30 * * * * %"\n'),
        f"{CHOICES_FILE}:4",
        "`backup_files_calendar` is `30 * * * * %`, which is no time of systemd",
        "backup_files_calendar: hourly",
    ),
    "an archive of one's own beside backups": (
        choose("backup_repository: local\npostgresql_settings: { archive_command: /bin/true }\n"),
        f"{CHOICES_FILE}:4",
        "`postgresql_settings` has `archive_command`",
        "backup_repository: none",
    ),
    "backups that are kept no day": (
        choose("backup_kept_days: 0\n"),
        f"{CHOICES_FILE}:3",
        "`backup_kept_days` is 0",
        "backup_kept_days: 2",
    ),
    "a port that is too great": (
        choose("firewall_open_ports: [{ port: 8443 }, { port: 99999 }]\n"),
        f"{CHOICES_FILE}:3",
        "`firewall_open_ports` has the port `99999`, which is none",
        "firewall_open_ports: [{ port: 8443 }",
    ),
    "a port that is a word": (
        choose("firewall_open_ports: [{ port: ssh }]\n"),
        f"{CHOICES_FILE}:3",
        "`firewall_open_ports` has the port `ssh`, which is none",
        "firewall_open_ports: [{ port: 8443 }",
    ),
    "a port that is its own entry": (
        choose("firewall_open_ports: [8443]\n"),
        f"{CHOICES_FILE}:3",
        "`firewall_open_ports` is wrong: ",
        "firewall_open_ports: ",
    ),
    "a range of ports that ends before it begins": (
        choose("firewall_open_ports: [{ port: 61000-60000, protocol: udp }]\n"),
        f"{CHOICES_FILE}:3",
        "the range `61000-60000`, which ends before it begins",
        "{ port: 60000-61000, protocol: udp }",
    ),
    "a port for a protocol that has none": (
        choose("firewall_open_ports: [{ port: 1, protocol: icmp }]\n"),
        f"{CHOICES_FILE}:3",
        "`firewall_open_ports` is wrong: ",
        "firewall_open_ports: ",
    ),
    "a port for a host by its name": (
        choose("firewall_open_ports: [{ port: 9100, from: [metrics.mysite.test] }]\n"),
        f"{CHOICES_FILE}:3",
        "`9100` open for `metrics.mysite.test`, which is neither an address nor a network",
        "from: [10.0.0.5",
    ),
    "a firewall that waits for no connection": (
        choose("firewall_confirm_seconds: 0\n"),
        f"{CHOICES_FILE}:3",
        "`firewall_confirm_seconds` is 0",
        "firewall_confirm_seconds: 5",
    ),
    "a firewall before a database for other hosts": (
        choose("postgresql_settings: { listen_addresses: 'localhost, 10.0.0.1' }\nfirewall_enabled: true\n"),
        f"{CHOICES_FILE}:4",
        "lets PostgreSQL listen for other hosts, and the firewall lets none of them in",
        "firewall_open_ports: [{ port: 5432, from: [10.0.0.5] }]",
    ),
    "a balancer by its name": (
        choose("nginx_trusted_proxies: [10.0.0.4, balancer.mysite.test]\n"),
        f"{CHOICES_FILE}:3",
        "`nginx_trusted_proxies` has `balancer.mysite.test`, which is neither an address nor a network",
        "nginx_trusted_proxies: [10.0.0.4, ",
    ),
    "a network of balancers that begins in its middle": (
        choose("nginx_trusted_proxies: [10.0.0.4/24]\n"),
        f"{CHOICES_FILE}:3",
        "`nginx_trusted_proxies` has `10.0.0.4/24`, which is neither an address nor a network (one ends with its first",
        "nginx_trusted_proxies: [10.0.0.4, ",
    ),
    "everybody who says who asks": (
        choose('nginx_trusted_proxies: ["::/0"]\n'),
        f"{CHOICES_FILE}:3",
        "`nginx_trusted_proxies` has `::/0`, which is everybody",
        "nginx_trusted_proxies: [10.0.0.4, ",
    ),
    "a balancer that hides all visitors": (
        choose("nginx_proxy_protocol: true\n"),
        f"{CHOICES_FILE}:3",
        "`nginx_proxy_protocol` is set, and `nginx_trusted_proxies` names no balancer that is believed",
        "nginx_trusted_proxies: [10.0.0.4, ",
    ),
    "an address that web hosts share, and that is none": (
        choose("site_virtual_address: www.mysite.test\n"),
        f"{CHOICES_FILE}:3",
        "`site_virtual_address` is www.mysite.test, which is no address",
        "site_virtual_address: 10.0.0.100",
    ),
    "an address that nobody could take over": (
        choose("site_virtual_address: 10.0.0.100\n"),
        f"{CHOICES_FILE}:3",
        "`site_virtual_address` is 10.0.0.100, and `web` has one host, h1",
        "site_virtual_address: 10.0.0.100",
    ),
    "an address that web hosts share, of one of them": (
        two_web_hosts("site_virtual_address: 10.0.0.2\n"),
        f"{CHOICES_FILE}:3",
        "`site_virtual_address` is 10.0.0.2, which is that of h2 alone",
        "site_virtual_address: 10.0.0.100",
    ),
    "an address that web hosts share, of the other version of IP": (
        two_web_hosts("site_virtual_address: fd00::1\n"),
        f"{CHOICES_FILE}:3",
        "`site_virtual_address` is fd00::1, and h1 has 10.0.0.1, of the other version of IP",
        "site_virtual_address: 10.0.0.100",
    ),
    "an address of the host itself": (
        two_web_hosts("site_virtual_address: 127.0.0.1\n"),
        f"{CHOICES_FILE}:3",
        "`site_virtual_address` is 127.0.0.1, which others do not reach",
        "site_virtual_address: 10.0.0.100",
    ),
    "a number of VRRP that is no byte": (
        two_web_hosts("site_virtual_address: 10.0.0.100\nkeepalived_number: 256\n"),
        f"{CHOICES_FILE}:4",
        "`keepalived_number` is 256; it is a number from 1 to 255",
        "keepalived_number: 51",
    ),
    "a pass phrase with a space": (
        choose("vault_backup_passphrase: a b\n"),
        f"{CHOICES_FILE}:3",
        "`vault_backup_passphrase`",
        "vault_backup_passphrase: ",
    ),
    "misspelt name of a host": (
        in_hosts("ansible_port: 9", "ansible_port: 9\n      gunicorn_wrokers: 3"),
        f"{HOSTS_FILE}:7",
        "`gunicorn_wrokers`",
        "gunicorn_workers: 2",
    ),
    "misspelt name on the command line": (
        extra(site_domian="www.mysite.test"),
        "-e on the command line",
        "`site_domian`",
        "site_domain: www.mysite.org",
    ),
    "name that nothing is like": (
        choose("monitoring_target: nas\n"),
        f"{CHOICES_FILE}:3",
        "`monitoring_target`",
        "site_extra_variables: [monitoring_target]",
    ),
    "derived fact": (
        choose("site_url: https://elsewhere.test\n"),
        f"{CHOICES_FILE}:3",
        "`site_url` is no choice",
        "site_domain: www.mysite.org",
    ),
    "site of no name": (
        choose("site_name: My-Shop\n"),
        f"{CHOICES_FILE}:3",
        "`site_name` is `My-Shop`; it must be of small letters and digits",
        "site_name: shop",
    ),
    "site with the name of something else": (
        choose("site_name: nginx\n"),
        f"{CHOICES_FILE}:3",
        "`site_name` is `nginx`; another thing on a host is called so",
        "site_name: shop",
    ),
    "backups of a second site": (
        choose("site_name: shop\nbackup_repository: local\n"),
        f"{CHOICES_FILE}:4",
        "`backup_repository` is local, and the site is called shop",
        "backup_repository: none",
    ),
    "constant": (
        choose("site_rabbitmq_port: 5673\n"),
        f"{CHOICES_FILE}:3",
        "`site_rabbitmq_port` is no choice",
        "always 5672",
    ),
    "inside of a helper role": (
        choose("systemd_service_type: exec\n"),
        f"{CHOICES_FILE}:3",
        "`systemd_service_type` is passed from role to role",
        "roles/*/defaults/main.yml",
    ),
    "word for a number": (
        choose("celery_worker_concurrency: four\n"),
        f"{CHOICES_FILE}:3",
        "`celery_worker_concurrency` must be a whole number; `four`",
        "celery_worker_concurrency: 2",
    ),
    "switch for a text": (
        choose("site_time_zone: no\n"),
        f"{CHOICES_FILE}:3",
        "`site_time_zone` must be a text",
        "site_time_zone: UTC",
    ),
    "text for a list": (
        choose("site_domain_aliases: mysite.test\n"),
        f"{CHOICES_FILE}:3",
        "`site_domain_aliases` must be a list",
        "site_domain_aliases: []",
    ),
    "number as a text on the command line": (
        extra(site_releases_kept="7"),
        "-e on the command line",
        "`7` is a text",
        """-e '{"site_releases_kept": 7}'""",
    ),
    "nothing for a value": (
        choose("nginx_tls:\n"),
        f"{CHOICES_FILE}:3",
        "`nginx_tls` is set to nothing",
        "nginx_tls: self_signed",
    ),
    "account that is no name": (
        choose("site_user: My-Site\n"),
        f"{CHOICES_FILE}:3",
        "`site_user` is `My-Site`",
        "site_user: mysite",
    ),
    "Python that is too old": (
        choose('site_python: "3.9"\n'),
        f"{CHOICES_FILE}:3",
        '`site_python` is "3.9"; it must be 3.11 or later',
        'site_python: "3.13"',
    ),
    "Python that is a number": (
        choose("site_python: 3.13\n"),
        f"{CHOICES_FILE}:3",
        "`site_python` is 3.13; it must be 3.11 or later, as two numbers in quotes",
        'site_python: "3.13"',
    ),
    "account that may do everything": (
        choose("site_user: root\n"),
        f"{CHOICES_FILE}:3",
        "`site_user` is `root`",
        "site_user: mysite",
    ),
    "broker that is none": (
        choose("site_broker: rabitmq\n"),
        f"{CHOICES_FILE}:3",
        "`site_broker` is none: it is redis, rabbitmq, or an address; did you mean rabbitmq?",
        "site_broker: amqps://site@mq.mysite.org/site",
    ),
    "broker of a kind that nobody tried": (
        choose("site_broker: sqs://key@\n"),
        f"{CHOICES_FILE}:3",
        "`site_broker` begins with sqs://; tested are amqp://, amqps://, redis://, rediss://",
        "site_broker: amqps://",
    ),
    "broker without a host": (
        choose("site_broker: amqp://site@/site\n"),
        f"{CHOICES_FILE}:3",
        "`site_broker` has no host where an address has one",
        "site_broker: amqps://",
    ),
    "broker with its password": (
        choose("site_broker: amqps://site:hunter2@mq.mysite.test/site\n"),
        f"{CHOICES_FILE}:3",
        "it is `vault_broker_password`",
        "site_broker: amqps://site@mq.mysite.org/site",
    ),
    "password of a broker for nobody": (
        choose("site_broker: amqps://mq.mysite.test\nvault_broker_password: abc\n"),
        f"{CHOICES_FILE}:3",
        "`site_broker` has no user",
        "site_broker: amqps://site@",
    ),
    "password of another broker for ours": (
        choose("site_broker: rabbitmq\nvault_broker_password: abc\n"),
        f"{CHOICES_FILE}:3",
        "`vault_broker_password` is for another one's",
        "site_broker: ",
    ),
    "broker that is the one before": (
        choose("site_broker: rabbitmq\nsite_broker_before: rabbitmq\n"),
        f"{CHOICES_FILE}:4",
        "`site_broker_before` is rabbitmq, and so is `site_broker`",
        "site_broker_before: none",
    ),
    "none of the choices": (
        choose("site_result_backend: mysql\n"),
        f"{CHOICES_FILE}:3",
        "must be one of project, django-db, redis",
        "site_result_backend: project",
    ),
    "task that may never be tried": (
        choose("site_task_deliveries: 0\n"),
        f"{CHOICES_FILE}:3",
        "`site_task_deliveries` is 0; it must be from 1 to 1000",
        "site_task_deliveries: 2",
    ),
    "log that ends before it begins": (
        choose("site_admin_log_days: -1\n"),
        f"{CHOICES_FILE}:3",
        "`site_admin_log_days` is -1; it must be from 0 to 36500",
        "site_admin_log_days: 2",
    ),
    "fewer results than none": (
        choose("site_results_rows: -5\n"),
        f"{CHOICES_FILE}:3",
        "`site_results_rows` is -5; it must be from 0 to 1000000000",
        "site_results_rows: 2",
    ),
    "template of nothing": (
        choose('site_drain_seconds: "{{ drain }}"\n'),
        f"{CHOICES_FILE}:3",
        "`site_drain_seconds` cannot be worked out: 'drain' is undefined",
        "site_drain_seconds: 300",
    ),
    "no domain": (
        without_domain,
        CHOICES_FILE,
        "`site_domain` is not set",
        "site_domain: www.mysite.org",
    ),
    "group without a host": (
        in_hosts("    workers: { hosts: { h1: } }\n", "    worker: { hosts: { h1: } }\n"),
        HOSTS_FILE,
        "`workers` has no host. The inventory has a group `worker`",
        "workers: { hosts: { www.mysite.org: } }",
    ),
    "group that need not have a host, misspelt": (
        in_hosts("    beat: { hosts: { h1: } }\n", "    beats: { hosts: { h1: } }\n"),
        HOSTS_FILE,
        "`beat` has no host. The inventory has a group `beats`",
        "beat: { hosts: { www.mysite.org: } }",
    ),
    "command that is a text": (
        choose("site_build_commands: [npm ci]\n"),
        f"{CHOICES_FILE}:3",
        "`site_build_commands` has as number 1 what is no list of words",
        "site_build_commands: [[npm, ci], [npm, run, build]]",
    ),
    "command of manage.py that names it": (
        choose("site_migrate_commands: [[migrate], [manage.py, createcachetable]]\n"),
        f"{CHOICES_FILE}:3",
        "`site_migrate_commands` has as number 2 what does not begin with a command of manage.py",
        "site_migrate_commands: [[migrate], [createcachetable]]",
    ),
    "command for static files that is a path": (
        choose("site_static_commands: [[./compress.sh]]\n"),
        f"{CHOICES_FILE}:3",
        "`site_static_commands` has as number 1 what does not begin with a command of manage.py",
        "site_static_commands: [[compress]]",
    ),
    "command of two lines": (
        choose('site_build_commands: [[sh, -c, "a\\nb"]]\n'),
        f"{CHOICES_FILE}:3",
        "`site_build_commands` has as number 1 a command with a NUL or a newline",
        "site_build_commands: [[npm, ci]",
    ),
    "command with a switch for a word": (
        choose("site_build_commands: [[echo, yes]]\n"),
        f"{CHOICES_FILE}:3",
        "`site_build_commands` has as number 1 a command with a word that YAML takes for something else",
        "site_build_commands: [[npm, ci]",
    ),
    "finding without its app": (
        choose("site_check_ignore: [W004]\n"),
        f"{CHOICES_FILE}:3",
        "`site_check_ignore` holds `W004`",
        "site_check_ignore: [security.W004]",
    ),
    "two monitors": (
        spread("monitor: { hosts: { h1: } }", "monitor: { hosts: { h1: , h2: } }"),
        f"{HOSTS_FILE}:8",
        "`monitor` has 2 hosts (h1, h2)",
        "monitor: { hosts:",
    ),
    "two brokers": (
        spread("broker: { hosts: { h1: } }", "broker: { hosts: { h1: , h2: } }"),
        HOSTS_FILE,
        "`broker` has 2 hosts (h1, h2)",
        "broker: { hosts: { host1: , host2: , host3: } }",
    ),
    "host that the others know by its name": (
        spread("workers: { hosts: { h1: } }", "workers: { hosts: { h1: , h2: } }", "two.mysite.test"),
        f"{HOSTS_FILE}:9",
        "reach `h2` by two.mysite.test, which is no address",
        "h2: { site_cluster_address: 10.0.0.5 }",
    ),
    "host that only itself reaches": (
        spread("workers: { hosts: { h1: } }", "workers: { hosts: { h1: , h2: } }", "127.0.0.1"),
        f"{HOSTS_FILE}:9",
        "reach `h2` by 127.0.0.1, which is not the address of a host for another one",
        "h2: { site_cluster_address: 10.0.0.5 }",
    ),
    "two hosts at one address": (
        spread("workers: { hosts: { h1: } }", "workers: { hosts: { h1: , h2: } }", "10.0.0.1"),
        f"{HOSTS_FILE}:9",
        "reach `h2` by 10.0.0.1, and `h1` by the same",
        "h2: { site_cluster_address: 10.0.0.5 }",
    ),
    "deploy that lets people wait on one host of two": (
        spread("web: { hosts: { h1: } }", "web: { hosts: { h1: , h2: } }", more="site_migrate: maintenance\n"),
        f"{CHOICES_FILE}:3",
        "`site_migrate` is maintenance, and the site has several hosts",
        "site_migrate: guarded",
    ),
    "folder that another host does not have": (
        spread("workers: { hosts: { h1: } }", "workers: { hosts: { h1: , h2: } }", more="site_data_folders: [media]\n"),
        f"{CHOICES_FILE}:3",
        "`site_data_folders` has media, and the site's processes are on 2 hosts",
        "site_data_shared: true",
    ),
    "host of the example": (
        in_hosts("ansible_host: 127.0.0.1", "ansible_host: host1.example.org"),
        f"{HOSTS_FILE}:5",
        "`host1.example.org` is the host of the example",
        "ansible_host: 10.1.2.3",
    ),
    "domain of the example": (
        extra(site_domain="www.example.org"),
        "-e on the command line",
        "`site_domain` is still www.example.org",
        "site_domain: www.mysite.org",
    ),
    "URL for a domain": (
        extra(site_domain="https://www.mysite.test/"),
        "-e on the command line",
        "`https://www.mysite.test/`, which is no host name",
        "site_domain: www.mysite.org",
    ),
    "source that is not there": (
        choose("site_source: /nonexistent/mysite\n"),
        f"{CHOICES_FILE}:3",
        "`site_source` is /nonexistent/mysite, and there is no such folder",
        "site_source: /home/me/mysite",
    ),
    "file outside of the project": (
        choose("site_files: { ../config.yml: hosts.yml }\n"),
        f"{CHOICES_FILE}:3",
        "`site_files` has `../config.yml`, which is no path of a file inside of the project",
        "site_files: { config.yml: .files/config.yml.j2 }",
    ),
    "file of the host": (
        choose("site_files: { /etc/config.yml: hosts.yml }\n"),
        f"{CHOICES_FILE}:3",
        "`site_files` has `/etc/config.yml`, which is no path",
        "site_files: { config.yml: .files/config.yml.j2 }",
    ),
    "template that would be an inventory": (
        choose("site_files: { config.yml: hosts.yml }\n"),
        f"{CHOICES_FILE}:3",
        "`site_files` has `config.yml` from hosts.yml, which Ansible would read as a part of the inventory",
        "site_files: { config.yml: .files/config.yml.j2 }",
    ),
    "archive that would be an inventory": (
        choose("site_source: ./shop-1.2.tar.gz\n"),
        f"{CHOICES_FILE}:3",
        "`site_source` is `./shop-1.2.tar.gz`, which Ansible would read as a part of the inventory",
        "site_source: .files/",
    ),
    "file without its template": (
        choose("site_files: { config.yml: .files/config.yml.j2 }\n"),
        f"{CHOICES_FILE}:3",
        "inventory/.files/config.yml.j2, and there is no such file",
        "site_files: { config.yml: .files/config.yml.j2 }",
    ),
    "file in place of a folder": (
        choose("site_files: { TimeOut: /etc/hostname }\n"),
        f"{CHOICES_FILE}:3",
        "`site_files` has `TimeOut`, which is a folder of the project",
        "site_files: { config.yml: .files/config.yml.j2 }",
    ),
    "file below a file": (
        choose("site_files: { manage.py/config.yml: /etc/hostname }\n"),
        f"{CHOICES_FILE}:3",
        "`site_files` has `manage.py/config.yml`, and manage.py of the project is no folder",
        "site_files: { config.yml: .files/config.yml.j2 }",
    ),
    "template that asks for what is not there": (
        with_template("{{ passwort }}\n"),
        f"{CHOICES_FILE}:3",
        "`site_files` has a template that cannot be filled in: 'passwort' is undefined",
        "site_files: { config.yml: .files/config.yml.j2 }",
    ),
    "package without its version": (
        choose("site_source: my-shop\n"),
        f"{CHOICES_FILE}:3",
        "`site_source` is `my-shop`: a package has its one version with it",
        "site_source: my-shop==1.2",
    ),
    "package of many versions": (
        choose("site_source: my-shop>=1.2\n"),
        f"{CHOICES_FILE}:3",
        "`site_source` is `my-shop>=1.2`: a package has its one version",
        "site_source: my-shop==1.2",
    ),
    "repository that anybody may answer for": (
        choose("site_source: http://me:secret@git.mysite.test/site.git\n"),
        f"{CHOICES_FILE}:3",
        "`site_source` is http://********@git.mysite.test/site.git: on its way",
        "site_source: https://git.mysite.org/me/site.git",
    ),
    "version of a folder": (
        choose("site_source_version: v1.2\n"),
        f"{CHOICES_FILE}:3",
        "`site_source_version` is `v1.2`, and `site_source` is",
        "site_source: https://git.mysite.org/me/site.git",
    ),
    "two versions of a package": (
        choose("site_source: shop==1.2\nsite_source_version: '1.3'\n"),
        f"{CHOICES_FILE}:4",
        "`site_source_version` is `1.3`, and `site_source` is shop==1.2, which has its version",
        "site_source_version: wheel",
    ),
    "version that would be an option": (
        choose("site_source: git@git.mysite.test:me/site.git\nsite_source_version: --upload-pack=x\n"),
        f"{CHOICES_FILE}:4",
        "`site_source_version` is `--upload-pack=x`, which is no name",
        "site_source_version: v1.2",
    ),
    "source that is no project": (
        choose("site_source: /usr\n"),
        f"{CHOICES_FILE}:3",
        "there is no manage.py in it",
        "site_source: /home/me/mysite",
    ),
    "source without a lock": (
        choose("site_lock: uv.lock\n"),
        f"{CHOICES_FILE}:3",
        "no file uv.lock",
        "site_lock: requirements/production.txt",
    ),
    "folder outside of the source": (
        choose("site_source_folder: ../src\n"),
        f"{CHOICES_FILE}:3",
        "`site_source_folder` is `../src`; it must be a folder inside of",
        "site_source_folder: src",
    ),
    "packages of a wrong type": (
        choose("site_requirements:\n"),
        f"{CHOICES_FILE}:3",
        "`site_requirements` is set to nothing",
        "site_requirements: [",
    ),
    "requirement without a hash": (
        choose("site_requirements: ['x @ git+https://token@git.mysite.test/x']\n"),
        f"{CHOICES_FILE}:3",
        "`x @ git+https://********@git.mysite.test/x`: what comes from a repository or a folder has no hash",
        "NAME @ https://",
    ),
    "hosts with other packages": (
        spread("web: { hosts: { h1: } }", "web: { hosts: { h1: , h2: { site_requirements: [x] } } }"),
        f"{HOSTS_FILE}:8",
        "`h2` has another project than `h1`, or other packages",
        "in group_vars/all, for all hosts",
    ),
    "relock that is a switch": (
        choose("site_relock: true\n"),
        f"{CHOICES_FILE}:3",
        "`site_relock` must be a text",
        'site_relock: "',
    ),
    "app that is not in the project": (
        choose("site_celery_app: config\n"),
        f"{CHOICES_FILE}:3",
        "has no module `config`",
        "site_celery_app: TimeOut",
    ),
    "path for a module": (
        choose("site_settings_module: TimeOut/settings.py\n"),
        f"{CHOICES_FILE}:3",
        "not how Python names a module",
        "site_settings_module: TimeOut.settings",
    ),
    "soft limit above the hard one": (
        choose("site_task_time_limit_seconds: 60\n"),
        f"{CHOICES_FILE}:3",
        "`site_task_soft_time_limit_seconds` is 1500 and must be less than",
        "site_task_time_limit_seconds: 1800",
    ),
    "beat slower than its check": (
        choose("celery_beat_max_interval_seconds: 30\n"),
        f"{CHOICES_FILE}:3",
        "must be less than `site_health_beat_seconds`",
        "celery_beat_max_interval_seconds: 5",
    ),
    "no process at all": (
        choose("celery_worker_concurrency: 0\n"),
        f"{CHOICES_FILE}:3",
        "must be from 1 to",
        "celery_worker_concurrency: 2",
    ),
    "time zone that does not exist": (
        choose("site_time_zone: Europe/Atlantis\n"),
        f"{CHOICES_FILE}:3",
        "`Europe/Atlantis`",
        "site_time_zone: Europe/Berlin",
    ),
    "environment that is not flat": (
        choose("site_environment: { HOSTS: [a, b] }\n"),
        f"{CHOICES_FILE}:3",
        "`site_environment` has `HOSTS`, whose value is no text",
        "site_environment: { SENTRY_DSN:",
    ),
    "environment with a name that is none": (
        choose("site_environment: { SENTRY-DSN: a }\n"),
        f"{CHOICES_FILE}:3",
        "`SENTRY-DSN`, which is no name",
        "site_environment: { SENTRY_DSN:",
    ),
    "environment that YAML does not take for a text": (
        choose("site_environment: { VERSION: 1.10 }\n"),
        f"{CHOICES_FILE}:3",
        "`VERSION`, whose value YAML takes for a number, a date or a switch",
        'site_environment: { SENTRY_DSN: "',
    ),
    "environment that no process can have": (
        choose('site_environment: { KEY: "a\\0b" }\n'),
        f"{CHOICES_FILE}:3",
        "`KEY`, whose value has a character that systemd does not pass on",
        "site_environment: { SENTRY_DSN:",
    ),
    "environment that is too long": (
        choose(f"site_environment: {{ LONG: {'x' * (128 * 1024 - len('LONG='))} }}\n"),
        f"{CHOICES_FILE}:3",
        "`LONG`, whose value is too long",
        "site_environment: { SENTRY_DSN:",
    ),
    "environment without what the processes need": (
        choose("site_environment: { CELERIAC_HEALTH_TOKEN: }\n"),
        f"{CHOICES_FILE}:3",
        "`CELERIAC_HEALTH_TOKEN`, which is taken away, and the processes need it",
        "site_environment: { SENTRY_DSN:",
    ),
    "environment of one process that is not flat": (
        choose("celery_worker_environment: { HOSTS: [a, b] }\n"),
        f"{CHOICES_FILE}:3",
        "`celery_worker_environment` has `HOSTS`, whose value is no text",
        "celery_worker_environment: { SENTRY_DSN:",
    ),
    "folder of static files of one process": (
        choose("gunicorn_environment: { STATIC_ROOT: /var/www/static }\n"),
        f"{CHOICES_FILE}:3",
        "`gunicorn_environment` has `STATIC_ROOT`",
        "site_static_url: /static/",
    ),
    "settings of one process that are not in the project": (
        choose("celery_beat_environment: { DJANGO_SETTINGS_MODULE: config.beat }\n"),
        f"{CHOICES_FILE}:3",
        "`celery_beat_environment.DJANGO_SETTINGS_MODULE` is `config.beat`, and",
        "celery_beat_environment: { DJANGO_SETTINGS_MODULE: TimeOut.settings }",
    ),
    "password of a database that asks for none": (
        choose("site_environment: { DB_PASSWORD: '{{ site_database_password }}' }\n"),
        f"{CHOICES_FILE}:3",
        "`site_environment` cannot be worked out: the database has a password with `site_database_login: password`",
        "site_environment: {}",
    ),
    "password that PostgreSQL would change": (
        choose("vault_database_password: élan\n"),
        f"{CHOICES_FILE}:3",
        "`vault_database_password` has a character that is not on every keyboard",
        'vault_database_password: "',
    ),
    "guarantee that is none": (
        choose("site_task_guarantees: { mail.send: exactly_once }\n"),
        f"{CHOICES_FILE}:3",
        "`site_task_guarantees` gives `exactly_once` to `mail.send`",
        'site_task_guarantees: { "mail.tasks.*": at_most_once }',
    ),
    "hook at no point of a release": (
        choose("site_release_hooks: { after_deploy: [python manage.py tell] }\n"),
        f"{CHOICES_FILE}:3",
        "`site_release_hooks` has `after_deploy`, which is no point of a release: these are before_migrate, before_",
        "site_release_hooks:\n  before_switch: [python manage.py check_data]",
    ),
    "hook that is not in a list": (
        choose("site_release_hooks: { after_switch: python manage.py tell }\n"),
        f"{CHOICES_FILE}:3",
        "`site_release_hooks` has something at `after_switch` that is no list",
        "  before_switch: [python manage.py check_data]",
    ),
    "hook that is no command": (
        choose("site_release_hooks: { after_switch: [true, 3] }\n"),
        f"{CHOICES_FILE}:3",
        "`after_switch`, number 2, what is neither a text nor a set of",
        "  before_switch: [python manage.py check_data]",
    ),
    "hook without a command": (
        choose("site_release_hooks: { after_switch: [{ timeout_seconds: 3 }] }\n"),
        f"{CHOICES_FILE}:3",
        "number 1, a `command` that is no text, or none",
        "{ command: python manage.py tell_everybody, timeout_seconds: 30 }",
    ),
    "hook that is empty": (
        choose("site_release_hooks: { before_switch: ['  '] }\n"),
        f"{CHOICES_FILE}:3",
        "`before_switch`, number 1, an empty command",
        "  before_switch: [python manage.py check_data]",
    ),
    "hook whose quote does not end": (
        choose('site_release_hooks: { before_switch: ["echo \'it"] }\n'),
        f"{CHOICES_FILE}:3",
        "a command with a quote or a backslash that nothing",
        "  before_switch: [python manage.py check_data]",
    ),
    "hook with a key that none has": (
        choose("site_release_hooks: { after_record: [{ command: ls, timeout: 3 }] }\n"),
        f"{CHOICES_FILE}:3",
        "`timeout`, which no hook has: there are command and timeout_seconds",
        "  after_record: [{ command: python manage.py tell_everybody, timeout_seconds: 30 }]",
    ),
    "hook that may take no time": (
        choose("site_release_hooks: { after_record: [{ command: ls, timeout_seconds: 0 }] }\n"),
        f"{CHOICES_FILE}:3",
        "a `timeout_seconds` that is no whole number from 1 to 86400",
        "timeout_seconds: 30 }",
    ),
    "hook with a time in words": (
        choose("site_release_hooks: { after_record: [{ command: ls, timeout_seconds: 1 min }] }\n"),
        f"{CHOICES_FILE}:3",
        "a `timeout_seconds` that is no whole number",
        "timeout_seconds: 30 }",
    ),
    "hooks that may take no time": (
        choose("site_release_hook_timeout_seconds: 0\n"),
        f"{CHOICES_FILE}:3",
        "`site_release_hook_timeout_seconds` is 0; it must be from 1",
        "site_release_hook_timeout_seconds: 2",
    ),
    "hooks that are a list": (
        choose("site_release_hooks: [python manage.py tell]\n"),
        f"{CHOICES_FILE}:3",
        "`site_release_hooks` must be a set of `name: value` lines",
        "site_release_hooks: {}",
    ),
    "password that is a number": (
        choose("vault_redis_password: 1234567890\n"),
        f"{CHOICES_FILE}:3",
        "`vault_redis_password` is no text",
        'vault_redis_password: "',
    ),
    "password that is not there yet": (
        choose("vault_flower_password:\n"),
        f"{CHOICES_FILE}:3",
        "`vault_flower_password` is empty",
        'vault_flower_password: "',
    ),
    "password of two lines": (
        choose('vault_site_admin_password: "a\\nb"\n'),
        f"{CHOICES_FILE}:3",
        "`vault_site_admin_password` has a character that cannot be typed",
        'vault_site_admin_password: "',
    ),
    "password that Flower cannot compare": (
        choose("vault_flower_password: élan\n"),
        f"{CHOICES_FILE}:3",
        "`vault_flower_password` has a character that is not on every keyboard",
        'vault_flower_password: "',
    ),
    "session of whom there is none": (
        choose("site_flower_sessions: everybody\n"),
        f"{CHOICES_FILE}:3",
        "must be one of superusers, staff, nobody",
        "site_flower_sessions: superusers",
    ),
    "name that would end before the password": (
        choose("site_flower_username: a:b\n"),
        f"{CHOICES_FILE}:3",
        "without a colon",
        "site_flower_username: admin",
    ),
    "page that may take no time": (
        choose("gunicorn_timeout_seconds: 0\n"),
        f"{CHOICES_FILE}:3",
        "`gunicorn_timeout_seconds` is 0; it must be from 1",
        "gunicorn_timeout_seconds: 2",
    ),
    "name that is no setting": (
        choose("site_settings: { language_code: de }\n"),
        f"{CHOICES_FILE}:3",
        "`site_settings` has `language_code`, which is no name of a setting",
        "site_settings: { LANGUAGE_CODE: de",
    ),
    "setting that is a date": (
        choose("site_settings: { OPENED: [2026-01-02] }\n"),
        f"{CHOICES_FILE}:3",
        "`OPENED`, whose value has a date",
        "site_settings: { LANGUAGE_CODE: de",
    ),
    "settings without end": (
        choose(f"site_settings: {{ WORDS: {'x' * 128 * 1024} }}\n"),
        f"{CHOICES_FILE}:3",
        "`site_settings` is too long",
        "belongs into the project",
    ),
    "settings module in the environment": (
        choose("site_environment: { DJANGO_SETTINGS_MODULE: config.production }\n"),
        f"{CHOICES_FILE}:3",
        "`site_environment` has `DJANGO_SETTINGS_MODULE`",
        "site_settings_module: config.settings",
    ),
    "folder of static files among the settings": (
        choose("site_settings: { STATIC_ROOT: /var/www/static }\n"),
        f"{CHOICES_FILE}:3",
        "`site_settings` has `STATIC_ROOT`",
        "site_static_url: /static/",
    ),
    "data folder that is a path": (
        choose("site_data_folders: [/srv/media]\n"),
        f"{CHOICES_FILE}:3",
        "`site_data_folders` holds `/srv/media`; it must be the name of a folder below /srv/site/data",
        "site_data_folders: [media, keys]",
    ),
    "data folder inside of a release": (
        choose("site_data_folders: [../current/app/media]\n"),
        f"{CHOICES_FILE}:3",
        "`../current/app/media`",
        "site_data_folders: [media, keys]",
    ),
    "data folder that would be an option": (
        choose("site_data_folders: [-rf]\n"),
        f"{CHOICES_FILE}:3",
        "`-rf`",
        "site_data_folders: [media, keys]",
    ),
    "uploads without a folder": (
        choose("site_media_url: /media/\nsite_data_folders: [keys]\n"),
        f"{CHOICES_FILE}:3",
        "`site_media_url` is for the folder `media`",
        "site_data_folders: [keys, media]",
    ),
    "a part of the uploads outside of them": (
        choose("site_media_url: /media/\nsite_data_folders: [media]\nsite_media_folders: [pub/../../keys]\n"),
        f"{CHOICES_FILE}:5",
        "`site_media_folders` holds `pub/../../keys`; it must be the path of a folder below /srv/site/data/media",
        "site_media_folders: [pub]",
    ),
    "a part of uploads that are not served": (
        choose("site_media_folders: [pub]\nsite_data_folders: [media]\n"),
        f"{CHOICES_FILE}:3",
        "`site_media_folders` is set and `site_media_url` is not",
        "site_media_url: /media/",
    ),
    "private folder that is none": (
        choose("site_private_folders: [invoices]\n"),
        f"{CHOICES_FILE}:3",
        "`site_private_folders` is for the folder `invoices`",
        "site_data_folders: [invoices]",
    ),
    "address of static files with a host": (
        choose("site_static_url: https://cdn.mysite.test/static/\n"),
        f"{CHOICES_FILE}:3",
        "`https://cdn.mysite.test/static/`, which is no path",
        "site_static_url: /static/",
    ),
    "static files that would be all there is": (
        choose("site_static_url: /\n"),
        f"{CHOICES_FILE}:3",
        "`site_static_url` is `/`, which is no path",
        "site_static_url: /static/",
    ),
    "uploads among the static files": (
        choose("site_media_url: /static/media/\nsite_data_folders: [media]\n"),
        f"{CHOICES_FILE}:3",
        "`site_media_url` is `/static/media/`, and /static/ is another's",
        "site_media_url: /media/",
    ),
    "uploads where the runtime answers": (
        choose("site_media_url: /-/media/\nsite_data_folders: [media]\n"),
        f"{CHOICES_FILE}:3",
        "`site_media_url` is `/-/media/`, and /-/ is another's",
        "site_media_url: /media/",
    ),
    "log-in with a host": (
        choose("site_login_paths: [https://www.mysite.test/login]\n"),
        f"{CHOICES_FILE}:3",
        "`https://www.mysite.test/login`, which is no path",
        "site_login_paths: [/admin/login/]",
    ),
    "log-in that would end a text of nginx": (
        choose("site_login_paths: ['/login\" 1;']\n"),
        f"{CHOICES_FILE}:3",
        "which is no path",
        "site_login_paths: [/admin/login/]",
    ),
    "limit of memory that is no size": (
        choose("celery_worker_memory_max: 1 gigabyte\n"),
        f"{CHOICES_FILE}:3",
        "`celery_worker_memory_max` is 1 gigabyte, which systemd does not take for a size",
        "celery_worker_memory_max: 310M",
    ),
    "limit that a process could not start with": (
        choose("gunicorn_workers: 8\ngunicorn_memory_high: 300M\n"),
        f"{CHOICES_FILE}:4",
        "`gunicorn_memory_high` is 300M, and 515 MB are what it has at rest",
        "gunicorn_memory_high: 1030M",
    ),
    "fewer connections than threads": (
        choose("gunicorn_workers: 10\npostgresql_settings: { max_connections: 100 }\n"),
        f"{CHOICES_FILE}:4",
        "`max_connections` 100, and the site may have 106 connections (4 celery-beat, 9 celery-worker, 1 flower, 80",
        "postgresql_settings: { max_connections: 106 }",
    ),
    "connections that are no number": (
        choose("postgresql_settings: { max_connections: many }\n"),
        f"{CHOICES_FILE}:3",
        "`max_connections` many, and that is no whole number",
        "postgresql_settings: { max_connections: 100 }",
    ),
    "certificate without a key": (
        choose("nginx_tls: certificate\nnginx_tls_certificate: /etc/hostname\n"),
        CHOICES_FILE,
        "`nginx_tls_key` is missing",
        "nginx_tls_key: /home/me/tls/privkey.pem",
    ),
    "certificate that nobody asked for": (
        choose("nginx_tls_certificate: /etc/hostname\nnginx_tls_key: /etc/hostname\n"),
        f"{CHOICES_FILE}:3",
        "`nginx_tls` does not ask for a certificate",
        "nginx_tls: certificate",
    ),
    "certificate that is not there": (
        choose("nginx_tls: certificate\nnginx_tls_certificate: /nonexistent/chain.pem\nnginx_tls_key: /etc/hostname\n"),
        f"{CHOICES_FILE}:4",
        "`nginx_tls_certificate` is /nonexistent/chain.pem, and there is no such file",
        "nginx_tls_certificate: /home/me/tls/fullchain.pem",
    ),
    "name that no authority can reach": (
        choose("nginx_tls: acme\n"),
        f"{CHOICES_FILE}:2",
        "`site_domain` holds `www.mysite.test`: a name that only a network of yours knows",
        "nginx_tls: self_signed",
    ),
    "alias that no authority can reach": (
        on_the_internet("site_domain_aliases: [mysite.org, intranet]\nnginx_tls: acme\n"),
        f"{CHOICES_FILE}:3",
        "`site_domain_aliases` holds `intranet`: a name that only a network of yours knows",
        "nginx_acme_directory: ",
    ),
    "address for which a certificate is asked": (
        choose(f"site_domain_aliases: [10.1.2.3]\n{ACME}"),
        f"{CHOICES_FILE}:3",
        "`site_domain_aliases` holds `10.1.2.3`: an address",
        "nginx_tls: self_signed",
    ),
    "authority without encryption": (
        choose("nginx_tls: acme\nnginx_acme_directory: http://acme.mysite.test/directory\n"),
        f"{CHOICES_FILE}:4",
        "`nginx_acme_directory` is `http://acme.mysite.test/directory`, which is no address of an authority",
        "nginx_acme_directory: https://",
    ),
    "e-mail that is none": (
        choose(f"{ACME}nginx_acme_email: me\n"),
        f"{CHOICES_FILE}:5",
        "`nginx_acme_email` is `me`, which is no address",
        "nginx_acme_email: admin@mysite.org",
    ),
    "name of a customer without a key": (
        choose(f"{ACME}nginx_acme_eab_key_id: kid-1\n"),
        f"{CHOICES_FILE}:5",
        "`nginx_acme_eab_key_id` is set, and `vault_nginx_acme_eab_key` is not",
        "vault_nginx_acme_eab_key: ",
    ),
    "key of a customer without a name": (
        choose(f"{ACME}vault_nginx_acme_eab_key: abc-_DEF\n"),
        f"{CHOICES_FILE}:5",
        "`vault_nginx_acme_eab_key` is set, and `nginx_acme_eab_key_id` is not",
        "nginx_acme_eab_key_id: kid-1",
    ),
    "alerts to nobody": (
        choose("site_alerts_email: ops\nsite_alerts_smtp_server: mail.mysite.test\n"),
        f"{CHOICES_FILE}:3",
        "`site_alerts_email` is `ops`, which is no address",
        "site_alerts_email: ops@mysite.org",
    ),
    "alerts from nobody": (
        choose(f"{MAIL}site_alerts_from: Celeriac <site>\n"),
        f"{CHOICES_FILE}:7",
        "`site_alerts_from` is `Celeriac <site>`, which is no address",
        "site_alerts_from: ops@mysite.org",
    ),
    "alerts that nothing takes": (
        choose("site_alerts_email: ops@mysite.test\n"),
        f"{CHOICES_FILE}:3",
        "`site_alerts_email` is set, and `site_alerts_smtp_server` is not",
        "site_alerts_smtp_server: mail.mysite.org",
    ),
    "a mail server with its port": (
        choose("site_alerts_email: ops@mysite.test\nsite_alerts_smtp_server: mail.mysite.test:587\n"),
        f"{CHOICES_FILE}:4",
        "`site_alerts_smtp_server` is `mail.mysite.test:587`, which is no name of a server",
        "site_alerts_smtp_port: 587",
    ),
    "a mail server with a user without a password": (
        choose(MAIL.partition("vault_")[0]),
        f"{CHOICES_FILE}:5",
        "`site_alerts_smtp_user` is set, and `vault_site_alerts_smtp_password` is not",
        "vault_site_alerts_smtp_password: ",
    ),
    "a mail server with a password without a user": (
        choose(MAIL.replace("site_alerts_smtp_user: mysite\n", "")),
        f"{CHOICES_FILE}:5",
        "`vault_site_alerts_smtp_password` is set, and `site_alerts_smtp_user` is not",
        "site_alerts_smtp_user: mysite",
    ),
    "a password that everybody reads": (
        choose(f"{MAIL}site_alerts_smtp_tls: none\n"),
        f"{CHOICES_FILE}:7",
        "`site_alerts_smtp_tls` is none: everybody on the way would read the password",
        "site_alerts_smtp_tls: starttls",
    ),
    "a mail server that is spoken to in an unknown way": (
        choose(f"{MAIL}site_alerts_smtp_tls: ssl\n"),
        f"{CHOICES_FILE}:7",
        "site_alerts_smtp_tls",
        "site_alerts_smtp_tls: ",
    ),
    "a webhook without encryption": (
        choose("site_alerts_webhook: http://chat.mysite.test/hooks/abc\n"),
        f"{CHOICES_FILE}:3",
        "`site_alerts_webhook` is no address that begins with https://",
        "site_alerts_webhook: https://",
    ),
    "a disk that may be more than full": (
        choose("site_alerts_disk_percent: 900\n"),
        f"{CHOICES_FILE}:3",
        "site_alerts_disk_percent",
        "site_alerts_disk_percent: ",
    ),
    "CA certificate that is not there": (
        choose("site_ca_certificates: [/nonexistent/ca.crt]\n"),
        f"{CHOICES_FILE}:3",
        "/nonexistent/ca.crt, and there is no such file",
        "site_ca_certificates: [",
    ),
}
# Those that are run for real below: one of each kind of check, and of each place.
RUN_FOR_REAL = [
    "misspelt name",
    "derived fact",
    "word for a number",
    "no domain",
    "group without a host",
    "two monitors",
    "source that is not there",
    "certificate without a key",
]


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_inventory_is_refused_with_place_and_example(inventory: Any, case: str) -> None:
    edit, place, words, example = WRONG[case]
    edit(inventory)
    problems = inventory.problems()
    matching = [problem for problem in problems if words in problem.what]
    assert matching, f"none of {[problem.what for problem in problems]} says: {words}"
    assert example in matching[0].example
    assert str(matching[0].place).endswith(place)
    others = [problem for problem in problems if problem.place != matching[0].place]
    assert not others, f"one mistake, yet also: {[problem.what for problem in others]}"


@pytest.mark.parametrize("case", RUN_FOR_REAL)
def test_a_refused_run_touches_no_host(inventory: Any, watch: Any, ansible_playbook: Any, case: str) -> None:
    edit, place, words, example = WRONG[case]
    in_hosts("ansible_port: 9", f"ansible_port: {watch.port}")(inventory)
    edit(inventory)
    run = ansible_playbook("site.yml", "-i", inventory.folder)
    assert run.returncode != 0, run.stdout
    for part in (words, place, example, "No host was touched."):
        assert part in run.stdout, run.stdout
    assert run.stdout.count(words) == 1, "the message was printed more than once"
    assert not watch.was_visited()
    assert "UNREACHABLE" not in run.stdout
    assert "h1 " not in run.stdout.partition("PLAY RECAP")[2], "a task ran for a host"


def test_the_watched_port_would_notice_a_visit(inventory: Any, watch: Any, ansible_playbook: Any) -> None:
    in_hosts("ansible_port: 9", f"ansible_port: {watch.port}")(inventory)
    run = ansible_playbook("playbooks/preflight.yml", "-i", inventory.folder, ANSIBLE_TIMEOUT="2")
    assert run.returncode != 0
    assert watch.was_visited(), run.stdout


def test_all_mistakes_are_told_at_once(inventory: Any) -> None:
    inventory.choose("site_drain_secnds: 60\nnginx_tls: none\ncelery_worker_concurrency: four\n")
    assert len(inventory.problems()) == 3


# ── What is right passes ─────────────────────────────────────────────────────────────────────────


def test_a_right_inventory_passes(inventory: Any) -> None:
    assert inventory.problems() == []


RIGHT = {
    "a value of each type": (
        "site_domain_aliases: [mysite.test]\nsite_hsts_seconds: 60\nsite_environment: { A: b }\n"
        "flower_read_only: true\nsite_time_zone: Europe/Berlin\n"
    ),
    "a template of another choice": (
        'site_domain_aliases: ["mail.{{ site_domain }}"]\nsite_drain_seconds: "{{ 2 * site_releases_kept }}"\n'
    ),
    "a fact of the host, not known yet": ("celery_worker_concurrency: \"{{ ansible_facts['site_host'].cpus }}\"\n"),
    "a derived fact in a template": 'site_environment: { HOME_PAGE: "{{ site_url }}" }\n',
    "another broker": "site_broker: rabbitmq\nsite_broker_before: redis\nvault_rabbitmq_password: abc\n",
    "a broker elsewhere": (
        "site_broker: amqps://site@mq.mysite.test:5671/site\nvault_broker_password: 'a b/@:'\n"
        "site_environment: { CELERY_BROKER_URL: '{{ site_broker_url }}' }\n"
    ),
    "results in a Redis beside RabbitMQ": "site_broker: rabbitmq\nsite_result_backend: redis\n",
    "a lookup": "site_admin_username: \"{{ lookup('ansible.builtin.env', 'HOME') }}\"\n",
    "a secret of one's own": "vault_redis_password: abc\n",
    "a certificate of an authority of this network": (
        f"site_domain_aliases: [mysite.test, intranet]\n{ACME}nginx_acme_email: me+it@mysite.test\n"
        "nginx_acme_eab_key_id: kid/1\nvault_nginx_acme_eab_key: abc-_DEF\n"
    ),
    "backups in a store": STORE,
    "alerts": f"{MAIL}site_alerts_from: site@mysite.test\nsite_alerts_webhook: https://chat.mysite.test/hooks/abc?a=b\n",
    "alerts by a server that knows the host": (
        "site_alerts_email: ops@mysite.test\nsite_alerts_smtp_server: 127.0.0.1\nsite_alerts_smtp_port: 25\n"
        "site_alerts_smtp_tls: none\n"
    ),
    "backups on another host": OTHER_HOST,
    "backups in a folder": (
        "backup_repository: local\nbackup_folder: /mnt/backups\nbackup_kept_days: 1\n"
        "backup_database_calendar: 'Mon..Fri *-*-* 02,14:30:00'\nvault_backup_passphrase: 'a#\"$b'\n"
    ),
    "a firewall": (
        "firewall_enabled: true\nfirewall_confirm_seconds: 60\npostgresql_settings: { listen_addresses: '*' }\n"
        "firewall_open_ports:\n  - { port: 5400-5500, from: [10.0.0.5, 10.1.0.0/16, 'fd00::/8'] }\n"
        "  - { port: 51820, protocol: udp }\n  - port: '8443'\n"
    ),
    "a firewall before a database for this host": (
        "firewall_enabled: true\npostgresql_settings: { listen_addresses: 'localhost,127.0.0.1, ::1' }\n"
    ),
    "balancers": "nginx_trusted_proxies: [10.0.0.4, 10.1.0.0/16, 'fd00::/64']\nnginx_proxy_protocol: true\n",
    "secrets with signs": (
        "vault_redis_password: 'é, \"x\" \\$y `z` #'\n"
        "vault_flower_password: 'a, \"x\" \\$y `z` #:'\n"
        "vault_site_health_token: '$`,\"'\n"
    ),
    "an environment with signs": 'site_environment: { A: "$`\\"\\\\\\r\\n\\t\\x01é", B: 12, C: "" }\n',
    "an environment with ready values, and less of it": (
        "site_environment: { BROKER: '{{ site_broker_url }}', DB_USER: '{{ site_database_user }}', TIME_ZONE: }\n"
    ),
    "an environment of one process": (
        "celery_worker_environment: { A: b, B: , DJANGO_SETTINGS_MODULE: TimeOut.settings }\n"
        "flower_environment: { A: }\n"
    ),
    "a password for the database": (
        "site_database_login: password\nsite_environment: { DB_PASSWORD: '{{ site_database_password }}' }\n"
    ),
    "guarantees of some tasks": 'site_task_guarantees: { "mail.*": at_most_once, a.b: project, c: at_least_once }\n',
    "settings of each type": (
        "site_settings: { A: [1, 2.5, null, {b: yes}], LANGUAGE_CODE: de, MEDIA_ROOT: '{{ site_data }}/media' }\n"
    ),
    "files of each kind": (
        "site_data_folders: [media, well-known_2.d, '2026']\nsite_media_url: /files/media/\n"
        "site_static_url: /files/static/\nsite_private_folders: ['2026']\n"
        "site_media_folders: [pub, pub.d/2026]\n"
    ),
    "hooks of each kind": """\
site_release_hooks:
  before_migrate: ["sh -c 'pg_dump site | gzip > it'"]
  before_switch:
    - python manage.py check_data
    - { command: ./smoke --quick, timeout_seconds: 86400 }
  after_switch: []
  after_record: [{ command: "bin/tell '{{ site_domain }}'" }]
""",
    "steps as lists": (
        "site_build_commands: [[npm, ci], [make, -j, 2]]\nsite_migrate_commands: []\n"
        "site_static_commands: [[compress, --force]]\n"
        "site_check: after_migrate\nsite_check_ignore: [security.W004, celeriac.W001]\n"
    ),
    "pools of workers": (
        "celery_worker_pools:\n  mail: { queues: [mail, 'priority.mail'], concurrency: 1, nice: 10 }\n"
        "  reports: { queues: [reports], autoscale: [4, 0], time_limit_seconds: 7200, soft_time_limit_seconds: 7000,\n"
        "    memory_max: 1G, environment: { A: b }, prefetch: 4, log_level: debug, max_tasks_per_child: 0 }\n"
        "  one-by-one: { queues: [one], pool: solo }\ncelery_worker_autoscale: [4, 1]\n"
    ),
    "commands and timers": (
        "site_commands:\n  consumer: { command: [document_consumer, --all, 3, 'a b$'], overlap: true, group: web,\n"
        "    stop_seconds: 60, settle_seconds: 5, memory_max: 500M, environment: { A: b } }\n"
        "  served: { program: [granian, --port, 1] }\n"
        "site_timers:\n  periodic: { command: [runperiodic], every: '*:0/5', catch_up: false, nice: 10 }\n"
        "  nightly: { program: [report.py], every: 'Mon..Fri *-*-* 02,14:30:00 Europe/Berlin' }\n"
    ),
    "limits of memory": (
        "celery_worker_memory_max: 1G\ncelery_worker_memory_high: 0.5G\ngunicorn_memory_max: 2147483648\n"
        "flower_memory_max: infinity\n"
    ),
    "connections enough": "gunicorn_workers: 8\npostgresql_settings: { max_connections: 100 }\n",
    "a database elsewhere, which may be a pooler": (
        "gunicorn_workers: 10\npostgresql_settings: { max_connections: 50 }\n"
        "site_environment: { DATABASE_URL: 'postgresql://pool.mysite.test/site' }\n"
    ),
    "no limit where a need is not known yet": (
        "celery_worker_concurrency: \"{{ ansible_facts['site_host'].cpus }}\"\ncelery_worker_memory_max: 100M\n"
    ),
    "a connection variable": "ansible_ssh_common_args: -o ForwardAgent=no\n",
    "a name for a playbook of one's own": ("site_extra_variables: [backup_target]\nbackup_target: nas\n"),
}


@pytest.mark.parametrize("text", ["", "    {}: {{}}\n", "    {}: {{ hosts: {{}} }}\n    {}s: {{ hosts: {{ h1: }} }}\n"])
def test_a_site_may_be_without_beat_and_monitor(inventory: Any, text: str) -> None:
    for group in ("beat", "monitor"):
        in_hosts(f"    {group}: {{ hosts: {{ h1: }} }}\n", text.format(group, group))(inventory)
    assert [str(problem) for problem in inventory.problems()] == []


@pytest.mark.parametrize(("text", "right"), [("{{ site_broker_url }}\n", True), ("{{ inventory_hostname }}\n", False)])
def test_a_file_that_is_added_to_a_release_is_the_same_on_all_hosts(inventory: Any, text: str, right: bool) -> None:
    with_template(text)(inventory)
    assert [str(problem) for problem in inventory.problems()] == []
    in_hosts("web: { hosts: { h1: } }", "web: { hosts: { h1: , h2: } }")(inventory)
    assert ("what is another on h2 than on h1" not in "".join(map(str, inventory.problems()))) is right


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_passes(inventory: Any, case: str) -> None:
    inventory.choose(RIGHT[case])
    assert [str(problem) for problem in inventory.problems()] == []


@pytest.mark.parametrize("missing", ["", "shop/settings.py", "shop/wsgi.py"])
def test_a_project_needs_no_manage_py(inventory: Any, tmp_path: Path, missing: str) -> None:
    """Where its settings are, it is."""
    for name in {"requirements.txt", "shop/settings.py", "shop/celery.py", "shop/wsgi.py"} - {missing}:
        file = tmp_path / "shop" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    inventory.choose(
        f"site_source: {tmp_path}/shop\nsite_settings_module: shop.settings\nsite_celery_app: shop.celery\n"
        "site_wsgi_application: shop.wsgi:application\n"
    )
    problems = [str(problem) for problem in inventory.problems()]
    assert bool(problems) == bool(missing), problems
    assert all(missing[:-3].replace("/", ".") in problem for problem in problems)


@pytest.mark.parametrize("added", ["settings_here.py", "settings_here/__init__.py", "src/settings_here.py", "other.py"])
def test_a_module_may_come_from_the_inventory(inventory: Any, tmp_path: Path, added: str) -> None:
    """It is found where the project's own are: in the folder that has its packages."""
    folder = "src" if added.startswith("src/") else ""
    for name in ("requirements.txt", "shop/celery.py", "shop/wsgi.py"):
        file = tmp_path / "shop" / folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    template = inventory.folder / ".files/settings.j2"
    template.parent.mkdir()
    template.touch()
    inventory.choose(
        f"site_source: {tmp_path}/shop\nsite_source_folder: '{folder}'\nsite_settings_module: settings_here\n"
        f"site_celery_app: shop.celery\nsite_wsgi_application: shop.wsgi:application\n"
        f"site_files: {{ {added}: .files/settings.j2 }}\n"
    )
    problems = [str(problem) for problem in inventory.problems()]
    assert bool(problems) == (added == "other.py"), problems
    assert all("nor the module `settings_here`" in problem for problem in problems)


def test_an_encrypted_value_is_read_with_its_password(inventory: Any, ansible_playbook: Any, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    vault = Path(sys.executable).parent / "ansible-vault"
    encrypted = subprocess.run(
        [
            vault,
            "encrypt_string",
            "60",
            "--name=site_time_zone",
            f"--vault-password-file={password}",
        ],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    inventory.choose(encrypted)
    arguments = ("playbooks/preflight.yml", "-i", inventory.folder)
    opened = ansible_playbook(*arguments, "--vault-password-file", password)
    assert "`site_time_zone` is `60`" in opened.stdout, opened.stdout
    closed = ansible_playbook(*arguments)
    assert "`site_time_zone` cannot be worked out" in closed.stdout, closed.stdout
    assert "Traceback" not in closed.stdout


def test_a_secret_is_not_repeated(inventory: Any) -> None:
    inventory.choose("site_environment: hunter2\ncelery_worker_environment: { KEY: [hunter2] }\n")
    problems = inventory.problems()
    assert len(problems) == 2
    assert not [problem for problem in problems if "hunter2" in str(problem)]


# ── Where things come from ───────────────────────────────────────────────────────────────────────


def test_of_two_inventories_the_later_one_counts(inventory: Any, tmp_path: Path) -> None:
    later = tmp_path / "later"
    (later / "group_vars").mkdir(parents=True)
    (later / "hosts.yml").write_text("all: { hosts: { h1: } }\n")
    (later / "group_vars" / "all.yml").write_text("site_releases_kept: none\n")
    inventory.choose("site_releases_kept: 3\n")
    (problem,) = inventory.problems(later)
    assert str(problem.place).endswith("later/group_vars/all.yml:1")


def test_a_misspelt_name_that_is_overridden_is_still_refused(inventory: Any, tmp_path: Path) -> None:
    later = tmp_path / "later"
    (later / "host_vars").mkdir(parents=True)
    (later / "hosts.yml").write_text("all: { hosts: { h1: } }\n")
    (later / "host_vars" / "h1.yml").write_text("\n\nsite_drain_secnds: 3\n")
    inventory.choose("site_drain_secnds: 4\n")
    places = [str(problem.place) for problem in inventory.problems(later)]
    assert [place.rpartition("/")[2] for place in places] == ["main.yml:3", "h1.yml:3"]


def test_a_switch_in_the_second_file_of_a_folder_has_its_own_line(inventory: Any) -> None:
    (inventory.folder / "group_vars" / "web.yml").write_text("---\n\nsite_time_zone: yes\n")
    (problem,) = inventory.problems()
    assert str(problem.place).endswith("group_vars/web.yml:3")


@pytest.mark.parametrize(
    ("file", "words", "example"),
    [
        ("host_vars/hl.yml", "No host of the inventory is named `hl`", "host_vars/h1.yml"),
        ("group_vars/worker.yml", "No group of the inventory is named", "group_vars/workers.yml"),
        ("group_vars/al", "No group of the inventory is named `al`", "group_vars/all"),
    ],
)
def test_a_file_that_ansible_would_not_read_is_refused(inventory: Any, file: str, words: str, example: str) -> None:
    unused = inventory.folder / file
    unused.parent.mkdir(exist_ok=True)
    unused.write_text("site_releases_kept: 3\n")
    (problem,) = inventory.problems()
    assert words in problem.what
    assert problem.place.source == str(unused)
    assert problem.example == example


def test_a_file_in_group_vars_beats_a_group_in_the_file_of_hosts(inventory: Any) -> None:
    in_hosts("web: { hosts: { h1: } }", "web: { hosts: { h1: }, vars: { gunicorn_workers: 0 } }")(inventory)
    inventory.choose("gunicorn_workers: -1\n")
    (problem,) = inventory.problems()
    assert "is -1" in problem.what
    assert str(problem.place).endswith(f"{CHOICES_FILE}:3")


def test_a_host_may_have_the_name_of_a_group(inventory: Any) -> None:
    text = (inventory.folder / HOSTS_FILE).read_text()
    inventory.hosts(text.replace("h1", "web"))
    inventory.choose("gunicorn_workers: 0\n")
    assert len(inventory.problems()) == 1


def test_an_inventory_in_ini_has_lines_too(inventory: Any, tmp_path: Path) -> None:
    (inventory.folder / "hosts.yml").unlink()
    groups = "".join(f"[{group}]\nh1\n" for group in ("web", "workers", "beat", "monitor", "broker", "database"))
    (inventory.folder / "hosts").write_text(f"h1 ansible_host=127.0.0.1 gunicorn_wrokers=3\n{groups}")
    (problem,) = inventory.problems()
    assert "`gunicorn_wrokers`" in problem.what
    assert str(problem.place).endswith("inventory/hosts:1")


# ── Real runs ────────────────────────────────────────────────────────────────────────────────────


def test_the_unedited_example_says_which_files_to_edit(ansible_playbook: Any, root: Path) -> None:
    run = ansible_playbook("site.yml")
    assert run.returncode != 0
    assert "inventory/single/hosts.yml:" in run.stdout, run.stdout
    assert "inventory/single/group_vars/all/" in run.stdout, run.stdout
    assert "UNREACHABLE" not in run.stdout
    assert run.stdout.count("No host was touched.\n\n") == 1


def test_the_example_of_several_hosts_is_right_once_it_is_edited(inventory: Any, root: Path) -> None:
    text = (root / "inventory/cluster/hosts.yml").read_text()
    assert len({problem.what for problem in problems_with(inventory, text)}) == 3
    assert problems_with(inventory, re.sub(r"(\w+)\.example\.org", r"\1.mysite.test", text)) == []


def problems_with(inventory: Any, hosts: str) -> list[Problem]:
    """Return what is wrong with an inventory of these hosts."""
    inventory.hosts(hosts)
    found: list[Problem] = inventory.problems()
    return found


@pytest.mark.parametrize("arguments", [("--limit", "h1"), ("--check", "--diff"), ("--tags", "redis"), ("-e", "{}")])
def test_no_option_slips_past_preflight(inventory: Any, ansible_playbook: Any, arguments: tuple[str, ...]) -> None:
    inventory.choose("site_drain_secnds: 60\n")
    run = ansible_playbook("site.yml", "-i", inventory.folder, *arguments)
    assert run.returncode != 0
    assert "`site_drain_secnds`" in run.stdout, run.stdout
    assert "UNREACHABLE" not in run.stdout


def test_an_error_of_yaml_has_its_file_and_line(inventory: Any, ansible_playbook: Any) -> None:
    inventory.choose("\n  site_hsts_seconds: 60\n")
    run = ansible_playbook("site.yml", "-i", inventory.folder)
    assert run.returncode != 0
    assert f"{CHOICES_FILE}:4" in run.stdout, run.stdout
    assert "two spaces a level, no tabs" in run.stdout
    assert "TASK" not in run.stdout


def test_a_file_that_is_encrypted_asks_for_its_password(inventory: Any, ansible_playbook: Any) -> None:
    sealed = inventory.folder / "group_vars" / "all" / "vault.yml"
    sealed.write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    run = ansible_playbook("site.yml", "-i", inventory.folder)
    assert run.returncode != 0
    assert "group_vars/all/vault.yml" in run.stdout, run.stdout
    assert "--ask-vault-pass" in run.stdout


def test_an_inventory_without_any_host_is_refused(inventory: Any, ansible_playbook: Any) -> None:
    inventory.hosts("all:\n")
    run = ansible_playbook("site.yml", "-i", inventory.folder)
    assert run.returncode != 0
    assert "The group `web` has no host." in run.stdout, run.stdout


def test_mitogen_and_linear_say_the_same(inventory: Any, ansible_playbook: Any) -> None:
    inventory.choose("site_drain_secnds: 60\n")
    outputs = {
        ansible_playbook("playbooks/preflight.yml", "-i", inventory.folder, ANSIBLE_STRATEGY=strategy).stdout
        for strategy in ("linear", "celeriac.site.mitogen_linear")
    }
    assert len(outputs) == 1, "\n\n".join(outputs)
    assert "`site_drain_secnds`" in outputs.pop()


def test_a_host_without_sudo_is_told_so(inventory: Any, ansible_playbook: Any) -> None:
    local = "ansible_connection: local\n      ansible_become_user: daemon\n"
    in_hosts("ansible_port: 9", local)(inventory)
    for strategy in ("linear", "celeriac.site.mitogen_linear"):
        run = ansible_playbook(
            "playbooks/preflight.yml",
            "-i",
            inventory.folder,
            ANSIBLE_STRATEGY=strategy,
            ANSIBLE_BECOME_EXE="/nonexistent/sudo",
        )
        assert run.returncode != 0
        assert "there is no sudo on the host" in run.stdout, run.stdout
        assert "apt-get install sudo" in run.stdout
        assert "Traceback" not in run.stdout


def test_the_playbook_is_valid_without_a_run(ansible_playbook: Any) -> None:
    assert ansible_playbook("--syntax-check", "site.yml").returncode == 0


# ── The small parts ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("sudo: a password is required", "asks `me` for a password"),
        ("Missing sudo password", "asks `me` for a password"),
        ("sudo: a terminal is required to read the password", "asks `me` for a password"),
        ("me is not in the sudoers file.", "`me` may not use sudo"),
        ("Sorry, try again.\nsudo: 1 incorrect password attempt", "password for sudo is wrong"),
        ("/bin/sh: 1: sudo: not found", "no sudo on the host"),
        ("/bin/sh: 1: /usr/bin/python3: not found", "no Python on the host"),
        ("ansible-core requires a minimum of Python version 3.8.", "too old"),
    ],
)
def test_what_sudo_prints_becomes_a_sentence(output: str, words: str) -> None:
    problem = explain(output, "h1", "me")
    assert problem is not None
    assert words in problem.what
    assert problem.example


def test_other_failures_keep_their_own_words() -> None:
    assert explain("Connection timed out during banner exchange", "h1", "me") is None


@pytest.mark.parametrize("name", ["example.org", "www.example.com", "host.example", "192.0.2.7", "2001:db8::1"])
def test_names_and_addresses_of_documentation_are_nobodys(name: str) -> None:
    assert is_example(name)


@pytest.mark.parametrize("name", ["example.test", "myexample.org", "10.0.0.1", "::1", "host1"])
def test_other_names_are_somebodys(name: str) -> None:
    assert not is_example(name)


def test_every_choice_has_an_example_that_is_right(bundle: Bundle) -> None:
    for name in bundle.settable:
        option = bundle.options[name]
        value = yaml.safe_load(example_of(option))[name]
        assert fault_of(value, option) is None, example_of(option)


@given(st.integers(min_value=0, max_value=200), st.data())
def test_a_choice_with_a_letter_missing_is_found_again(bundle: Bundle, which: int, data: st.DataObject) -> None:
    name = bundle.settable[which % len(bundle.settable)]
    at = data.draw(st.integers(min_value=0, max_value=len(name) - 1))
    near = nearest(name[:at] + name[at + 1 :], bundle.settable)
    assert near is not None


@given(st.text() | st.integers() | st.floats() | st.booleans() | st.none() | st.lists(st.text()))
def test_no_value_makes_the_check_fail(value: object) -> None:
    for kind in ("str", "int", "float", "bool", "list", "dict", "path"):
        fault = fault_of(value, Option("site_x", "site", {"type": kind}))
        assert fault is None or fault.startswith("`site_x`")


def test_a_problem_that_is_found_twice_is_told_once() -> None:
    problem = Problem("Wrong.", Place("/tmp/x", 3), "right: 1")
    assert report([problem, problem]).count("Wrong.") == 1


def test_a_line_is_found_in_yaml_and_in_ini(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("---\nab: 1\n  a: 2\nh1 b=3 { c: 4 }\n")
    assert [line_of(file, name) for name in ("a", "b", "c", "d")] == [3, 4, 4, None]


def test_the_checks_take_no_time_that_anybody_notices(inventory: Any) -> None:
    def seconds() -> float:
        started = time.process_time()
        inventory.problems()
        return time.process_time() - started

    # The best of three, of the processor's time, ten times what it takes: other work must not make it red.
    assert min(seconds() for _ in range(3)) < 0.5


def test_it_is_known_on_which_hosts_a_role_runs(bundle: Bundle) -> None:
    assert bundle.runs_on("nginx", {"web", "workers"})
    assert not bundle.runs_on("nginx", {"workers"})
    # One play has roles for several groups.
    assert bundle.runs_on("gunicorn", {"web"})
    assert not bundle.runs_on("gunicorn", {"workers"})
    assert bundle.runs_on("redis_results", {"broker"})
    assert not bundle.runs_on("redis_results", {"database"})
    assert bundle.runs_on("site", set())
