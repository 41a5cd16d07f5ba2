"""A release is one folder; its processes run from it and cannot change it."""

from __future__ import annotations

import pytest
from stack.machine import PROCESSES, Machine
from stack.web import Website
from testinfra.host import Host

UNITS = PROCESSES


def test_current_is_what_serves(stranger: Website, release: str) -> None:
    assert stranger.get("/").headers["X-Release"] == release


@pytest.mark.parametrize("unit", PROCESSES)
def test_processes_run_from_the_release_alone(machine: Machine, host: Host, release: str, unit: str) -> None:
    group = machine.show(unit, "ControlGroup")
    pids = host.check_output("cat /sys/fs/cgroup%s/cgroup.procs", group).split()
    assert pids

    for pid in pids:
        about = host.check_output(
            "cd /proc/%s; readlink cwd; cat cmdline environ | tr '\\0' '\\n'; grep -o '/srv/.*' maps | sort -u", pid
        )
        assert about.splitlines()[0] == f"/srv/site/releases/{release}/app"
        assert f"/srv/site/releases/{release}/venv/lib/" in about, "no library of the release is loaded"
        # `current` moves while the process runs: what it imports then would be of another release.
        assert "/srv/site/current" not in about


def test_processes_cannot_change_the_code(host: Host, release: str) -> None:
    # What outlives a release is no code.
    places = "/srv/site /etc/site -path '/srv/site/data/*' -prune -o"
    assert host.check_output(f"runuser -u site -- find {places} -writable -not -type l -print 2>/dev/null; true") == ""


def test_processes_can_read_the_code(host: Host, release: str) -> None:
    assert host.run("runuser -u site -- test -r /srv/site/releases/%s/app/manage.py", release).rc == 0


@pytest.mark.parametrize("account", ["nobody", "www-data", "redis"])
def test_others_cannot_read_the_code(host: Host, release: str, account: str) -> None:
    assert host.run("runuser -u %s -- test -r /srv/site/releases/%s/app/manage.py", account, release).rc != 0


@pytest.mark.parametrize("account", ["nobody", "site", "site_deploy"])
def test_no_account_can_hold_up_a_deploy(host: Host, account: str) -> None:
    assert host.run("runuser -u %s -- flock --nonblock /srv/site/deploy.lock true", account).rc != 0
    assert host.run("flock --nonblock /srv/site/deploy.lock true").rc == 0
