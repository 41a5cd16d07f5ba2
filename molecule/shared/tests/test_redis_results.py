"""With `site_result_backend: redis` results have a Redis of their own: they take no room from the queues.

`bin/test default-12` deploys it, and so does `CELERIAC_RESULTS=redis bin/test default-13`.
"""

from __future__ import annotations

import shlex

import pytest
from stack.machine import Machine
from stack.web import Website
from testinfra.host import Host

from testkit.waiting import eventually

UNIT = "redis-server@results"
UNITS = (UNIT, "redis-server", "celery-worker")
PORT, BROKERS_PORT = 6380, 6379


@pytest.fixture(autouse=True)
def chosen(choices: dict[str, object]) -> None:
    """Skip where results are in the database."""
    if choices["site_result_backend"] != "redis":
        pytest.skip("results are in the database")


def redis(machine: Machine, secrets: dict[str, str], *commands: str, port: int = PORT) -> str:
    """Run commands as the site's own user, and return all answers."""
    lines, password = "\n".join(commands), shlex.quote(secrets["redis_password"])
    return machine.feed(f"export REDISCLI_AUTH={password}\nredis-cli -p {port} --user site <<'END'\n{lines}\nEND\n")


def has_result(machine: Machine, secrets: dict[str, str], task: str) -> bool:
    """Tell whether the result of a task is there."""
    return redis(machine, secrets, f"EXISTS celery-task-meta-{task}") == "1\n"


@pytest.fixture
def ended(site: Website) -> str:
    """A task that has ended."""
    task = site.enqueue_add(20, 22)
    eventually(lambda: site.task(task)["state"] == "SUCCESS", 60)
    return task


def test_it_is_active_and_enabled(machine: Machine, host: Host) -> None:
    machine.wait_until_active(UNIT)
    assert host.check_output("systemctl is-enabled %s", UNIT) == "enabled"


def test_it_listens_for_this_host_only(host: Host) -> None:
    listening = host.check_output("ss -Hlnt sport = :%s", str(PORT)).splitlines()

    assert {line.split()[3] for line in listening} == {f"127.0.0.1:{PORT}", f"[::1]:{PORT}"}


def test_stranger_is_refused(host: Host) -> None:
    assert host.run("redis-cli -p %s ping", str(PORT)).stdout.startswith("NOAUTH")


@pytest.mark.parametrize("command", ["FLUSHALL", "CONFIG GET requirepass", "KEYS *", "ACL LIST"])
def test_dangerous_command_is_refused(machine: Machine, secrets: dict[str, str], command: str) -> None:
    assert redis(machine, secrets, command).startswith("NOPERM")


def test_it_may_be_asked_which_redis_it_is(machine: Machine, secrets: dict[str, str]) -> None:
    """As the one of the queue: a project that has its cache there asks."""
    assert "redis_version" in redis(machine, secrets, "INFO server")


def test_result_is_there_and_not_beside_the_queue(machine: Machine, secrets: dict[str, str], ended: str) -> None:
    assert has_result(machine, secrets, ended)
    assert redis(machine, secrets, "SELECT 1", "DBSIZE", port=BROKERS_PORT) == "OK\n0\n"
    assert redis(machine, secrets, f"EXISTS celery-task-meta-{ended}", port=BROKERS_PORT) == "0\n"


@pytest.mark.once
def test_result_survives_a_restart(machine: Machine, secrets: dict[str, str], ended: str) -> None:
    machine.systemctl("restart", UNIT)

    assert has_result(machine, secrets, ended)


@pytest.mark.once
def test_what_is_full_makes_room(machine: Machine, secrets: dict[str, str], site: Website) -> None:
    """What would expire first is gone first, and tasks go on."""
    numbers = range(400)  # of 160 kB each; there is room for half of them
    names = [f"full:{n}" for n in numbers]
    fill = [line for n in numbers for line in (f"SETRANGE full:{n} 160000 x", f"EXPIRE full:{n} {1000 + n}")]
    try:
        assert "OOM" not in redis(machine, secrets, *fill)
        # Redis looks at a few keys at a time: which goes is nearly the first, not always.
        soon, later = (int(redis(machine, secrets, f"EXISTS {' '.join(half)}")) for half in (names[:200], names[200:]))
        assert 0 < soon + later < len(names)
        assert soon < later / 2
        task = site.enqueue_add(1, 1)
        eventually(lambda: site.task(task)["state"] == "SUCCESS", 60)
    finally:
        redis(machine, secrets, f"DEL {' '.join(names)}")


@pytest.mark.once
def test_tasks_that_end_without_it_have_their_results_when_it_is_back(machine: Machine, site: Website) -> None:
    with machine.stopped(UNIT):
        tasks = [site.enqueue_add(number, number) for number in range(3)]

    for number, task in enumerate(tasks):
        eventually(lambda task=task: site.task(task)["state"] == "SUCCESS", 120)  # type: ignore[misc]
        assert site.task(task)["result"] == number * 2
