"""Nginx and PostgreSQL do in their sandbox all that they have to, and little else."""

from __future__ import annotations

import re

import pytest
from stack.machine import BROKER_UNIT, Machine
from stack.web import Website
from testinfra.host import Host

from testkit.waiting import eventually

UNITS = ("nginx", "postgresql@*")
LOGS = "/var/log/nginx"


@pytest.fixture(scope="module")
def cluster(host: Host) -> str:
    """Version and name of the cluster, as pg_ctlcluster(1) wants them."""
    return " ".join(host.check_output("pg_lsclusters --no-header").split()[:2])


def sql(host: Host, *statements: str) -> str:
    """Run statements as the one who may do everything, in one session; return what they say."""
    words = " ".join(f'-c "{statement}"' for statement in statements)
    answer = host.run(f"cd / && runuser -u postgres -- psql --no-psqlrc --quiet {words}")
    return f"{answer.stdout}{answer.stderr}"


def exposure(host: Host, unit: str) -> float:
    """Return what systemd-analyze(1) thinks of a unit: 10 is worst."""
    report = host.check_output("systemd-analyze security --no-pager %s", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert found, report
    return float(found[1])


def workers(host: Host, machine: Machine) -> set[str]:
    """Return the ids of nginx's workers."""
    return set(host.check_output("pgrep --parent %s", machine.show("nginx", "MainPID")).split())


# As Debian ships them: 9.6, 9.6, 1.1, and 9.2.
@pytest.mark.parametrize(
    ("unit", "most"), [("nginx", 3), ("postgresql", 2), (BROKER_UNIT, 2 if BROKER_UNIT == "rabbitmq-server" else 1.5)]
)
def test_service_is_sandboxed(host: Host, cluster: str, unit: str, most: float) -> None:
    instance = f"@{cluster.replace(' ', '-')}" if unit == "postgresql" else ""

    assert exposure(host, unit + instance) <= most


@pytest.mark.parametrize("folder", ["/etc/nginx", "/usr/share", "/srv/site", "/var/lib"])
def test_nginx_writes_to_no_place_but_its_own(machine: Machine, host: Host, folder: str) -> None:
    inside = f"nsenter --mount --target {machine.show('nginx', 'MainPID')}"

    assert "Read-only file system" in host.run(f"{inside} touch {folder}/probe").stderr
    assert host.check_output(f"{inside} ls -A /home") == ""


def test_nginx_writes_to_its_logs_when_they_were_rotated(host: Host, stranger: Website) -> None:
    """As logrotate does it: a new file of Debian's owner and mode, and a word to nginx."""
    host.check_output(f"mv {LOGS}/access.log {LOGS}/access.log.probe")
    try:
        host.check_output(f"install --owner=www-data --group=adm --mode=0640 /dev/null {LOGS}/access.log")
        host.check_output("invoke-rc.d nginx rotate")
        eventually(lambda: stranger.get("/").status == 200 and host.file(f"{LOGS}/access.log").size > 0, 20)
    finally:
        host.run(f"rm --force {LOGS}/access.log.probe")


def test_nginx_reads_everything_again(machine: Machine, host: Host, stranger: Website) -> None:
    master, before = machine.show("nginx", "MainPID"), workers(host, machine)
    machine.systemctl("reload", "nginx")
    eventually(lambda: not before & workers(host, machine), 30)

    assert machine.show("nginx", "MainPID") == master
    assert stranger.get("/").status == 200


def test_postgresql_cannot_change_its_own_configuration(host: Host, cluster: str) -> None:
    """Whoever is its superuser could let everybody in."""
    folder = cluster.replace(" ", "/")

    assert "Read-only file system" in sql(host, f"COPY (SELECT 1) TO '/etc/postgresql/{folder}/probe'")


def test_postgresql_compiles_a_long_query(host: Host) -> None:
    costs = [f"SET jit{name}_above_cost = 0" for name in ("", "_inline", "_optimize")]
    plan = sql(host, *costs, "EXPLAIN (ANALYZE) SELECT sum(n) FROM generate_series(1, 1000) AS n")

    assert "JIT:" in plan, plan


def test_database_can_be_dumped(host: Host) -> None:
    assert "PostgreSQL database dump complete" in host.check_output("cd / && runuser -u site -- pg_dump site | tail")


@pytest.mark.once
def test_postgresql_obeys_debians_own_commands(machine: Machine, host: Host, cluster: str, site: Website) -> None:
    unit = f"postgresql@{cluster.replace(' ', '-')}"
    for command, state in (("reload", "active"), ("restart", "active"), ("stop", "inactive"), ("start", "active")):
        host.check_output(f"pg_ctlcluster {cluster} {command}")
        assert machine.state(unit) == state
    eventually(lambda: site.get("/health/").status == 200, 60)
