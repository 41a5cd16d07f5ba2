"""Beat sends what is due, and says that it does."""

from __future__ import annotations

import re
import time

import pytest
from stack.machine import Machine
from testinfra.host import Host

from testkit.waiting import eventually

UNITS = ("celery-beat", "celery-worker")
UNIT = "celery-beat"


def views(host: Host) -> int:
    """Return how often the posts were viewed, by what the schedule counts every minute."""
    return int(host.check_output("runuser -u site -- psql -XAt site -c 'SELECT sum(view_count) FROM app_post'"))


def last_tick(machine: Machine) -> int:
    """Return when beat last ticked, in seconds of Unix time; 0 for not yet."""
    found = re.match(r"last tick (\d+)", machine.show(UNIT, "StatusText"))
    return int(found[1]) if found else 0


@pytest.fixture(scope="session")
def views_at_first(host: Host) -> int:
    """How often the posts were viewed when the tests began."""
    return views(host)


@pytest.mark.first
def test_beat_ticks(machine: Machine, views_at_first: int) -> None:
    eventually(lambda: time.time() - last_tick(machine) < 10, 30)


@pytest.mark.last
@pytest.mark.once
def test_beat_fires(host: Host, views_at_first: int) -> None:
    eventually(lambda: views(host) > views_at_first, 70)


@pytest.mark.once
def test_killed_beat_returns(machine: Machine) -> None:
    machine.kill(UNIT)

    returned = time.time()
    eventually(lambda: last_tick(machine) >= returned, 15)


@pytest.mark.once
def test_active_means_that_it_ticks(machine: Machine, host: Host) -> None:
    cluster = host.check_output("systemctl list-units --plain --no-legend 'postgresql@*' | cut -d' ' -f1")
    with machine.stopped(cluster):
        machine.systemctl("restart", "--no-block", UNIT)
        # Both without it are wrong: `active`, and having given up. (Between stop and start of a restart it is
        # `inactive` for a moment, with the start still to come.)
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            shown = machine.root.check_output("systemctl show --property=ActiveState,Job %s", UNIT)
            assert re.search(r"^ActiveState=(de)?activating$|^Job=\d", shown, re.MULTILINE), shown
            assert "ActiveState=active\n" not in shown, shown
            time.sleep(0.5)
        away = int(time.time())

    machine.wait_until_active(UNIT)
    assert last_tick(machine) >= away
