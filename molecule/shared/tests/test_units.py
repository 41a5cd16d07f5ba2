"""What `systemctl` says of the stack, also after a reboot that nobody helped."""

from __future__ import annotations

import re
from typing import Any

import pytest
from stack.machine import BROKER_UNIT, PROCESS_UNITS, PROCESSES, Machine
from stack.web import Website
from testinfra.host import Host

from testkit.waiting import eventually

UNITS = (*PROCESS_UNITS, BROKER_UNIT, "nginx")
POSTGRESQL = {"12": "postgresql@15-main", "13": "postgresql@17-main"}


@pytest.fixture(scope="module")
def postgresql(host: Host) -> str:
    """The unit of the database cluster; Debian's `postgresql` is active even when that is dead."""
    return POSTGRESQL[host.system_info.release.partition(".")[0]]


@pytest.mark.parametrize("unit", UNITS)
def test_unit_is_active_and_enabled(machine: Machine, host: Host, release: str, unit: str) -> None:
    machine.wait_until_active(unit)
    enabled = host.check_output("systemctl is-enabled %s", unit)
    # `alias` says that it is one; what starts it at boot is the target that wants it.
    wanted = f"{unit}-{release}.service" in machine.show("site.target", "Wants").split()
    assert enabled == "enabled" or (enabled == "alias" and wanted)


def test_postgresql_is_active_and_enabled(machine: Machine, host: Host, postgresql: str) -> None:
    assert machine.state(postgresql) == "active"
    # Debian's generator writes the links at each boot, for clusters whose start.conf says `auto`.
    assert host.check_output("systemctl is-enabled %s", postgresql) == "enabled-runtime"


@pytest.mark.parametrize("unit", PROCESSES)
def test_alias_stands_for_the_unit_of_the_release(host: Host, release: str, unit: str) -> None:
    link = host.check_output("readlink --canonicalize /etc/systemd/system/%s.service", unit)

    assert link == f"/etc/systemd/system/{unit}-{release}.service"
    assert host.check_output("systemctl show --value -p Id %s", unit) == f"{unit}-{release}.service"


@pytest.mark.parametrize("unit", PROCESSES)
def test_unit_is_sandboxed(host: Host, unit: str) -> None:
    report = host.check_output("systemd-analyze security --no-pager %s", unit)

    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert exposure, report
    assert float(exposure[1]) <= 1.5, report


def test_a_limit_of_memory_is_the_one_that_was_chosen(machine: Machine, choices: dict[str, Any]) -> None:
    assert [choices[f"celery_worker_memory_{limit}"] for limit in ("high", "max")] == ["1.5G", "2G"]
    found = [int(machine.show("celery-worker", name)) for name in ("MemoryHigh", "MemoryMax")]
    assert found == [1536 * 2**20, 2048 * 2**20]
    assert machine.show("gunicorn", "MemoryMax") == "infinity"


def test_no_unit_has_failed(host: Host) -> None:
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""


@pytest.mark.once
def test_target_moves_all_processes(machine: Machine, site: Website) -> None:
    with machine.stopped("site.target"):
        # PartOf= queues their stop beside the target's.
        eventually(lambda: {machine.state(unit) for unit in PROCESS_UNITS} == {"inactive"}, 40)

    assert {unit: machine.state(unit) for unit in PROCESS_UNITS} == dict.fromkeys(PROCESS_UNITS, "active")
    assert site.get("/").status == 200
