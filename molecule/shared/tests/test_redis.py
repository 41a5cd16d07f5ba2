"""The broker keeps what it has accepted, lets in nobody but the site, and may go away and come back."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator

import pytest
from stack.machine import BROKER_UNIT, Machine
from stack.web import Website
from testinfra.host import Host

from testkit.waiting import eventually

UNITS = ("redis-server", "celery-worker", "celery-beat")

pytestmark = pytest.mark.skipif(BROKER_UNIT != "redis-server", reason="the broker is RabbitMQ")


def redis(machine: Machine, secrets: dict[str, str], *commands: str) -> str:
    """Run commands as the site's own user, and return all answers."""
    lines, password = "\n".join(commands), shlex.quote(secrets["redis_password"])
    return machine.feed(f"export REDISCLI_AUTH={password}\nredis-cli --user site <<'END'\n{lines}\nEND\n")


@pytest.mark.parametrize(
    "command",
    [
        "redis-server --version",
        "systemctl start redis-server",
        "systemctl enable redis-server",
        "service redis status",
    ],
)
def test_command_of_the_notes_works(host: Host, command: str) -> None:
    assert host.run(command).rc == 0


@pytest.mark.once
@pytest.mark.debian(13)
def test_everything_works_again_after_20_seconds_without_redis(machine: Machine, host: Host, site: Website) -> None:
    stopped = time.monotonic()
    host.check_output("service redis stop")
    try:
        eventually(lambda: site.get("/health/").status == 503, 10)
        time.sleep(20 - (time.monotonic() - stopped))
    finally:
        host.check_output("service redis start")

    started = time.time()
    eventually(lambda: site.get("/health/").status == 200, 10)
    task = site.enqueue_add(1, 1)
    eventually(lambda: site.task(task)["state"] == "SUCCESS", 40)
    for unit in ("celery-worker", "celery-beat", "gunicorn", "flower"):
        assert machine.state(unit) == "active"
    eventually(lambda: int(machine.show("celery-beat", "StatusText").split()[2]) > started, 15)


def test_stranger_is_refused(host: Host) -> None:
    assert host.run("redis-cli ping").stdout.startswith("NOAUTH")


def test_wrong_password_is_refused(host: Host) -> None:
    answer = host.run("redis-cli --user site --pass wrong ping")

    assert "WRONGPASS" in answer.stdout + answer.stderr
    assert "PONG" not in answer.stdout


def test_site_is_let_in(machine: Machine, secrets: dict[str, str]) -> None:
    assert redis(machine, secrets, "PING") == "PONG\n"


@pytest.mark.parametrize("command", ["FLUSHALL", "CONFIG GET requirepass", "KEYS *", "ACL LIST", "REPLICAOF NO ONE"])
def test_dangerous_command_is_refused(machine: Machine, secrets: dict[str, str], command: str) -> None:
    assert redis(machine, secrets, command).startswith("NOPERM")


@pytest.mark.once
def test_transaction_survives_a_restart(machine: Machine, secrets: dict[str, str]) -> None:
    """Celery notes what a worker has taken from a queue in a transaction; Redis reads its log as another user."""
    redis(machine, secrets, "MULTI", "HSET kept a 1", "ZADD kept:index 1 a", "EXEC")
    try:
        machine.systemctl("restart", "redis-server")
        assert redis(machine, secrets, "HLEN kept") == "1\n"
    finally:
        redis(machine, secrets, "DEL kept kept:index")


@pytest.fixture(scope="module")
def accepted(machine: Machine, site: Website) -> Iterator[list[str]]:
    """Tasks that are in the queue while the worker is stopped."""
    with machine.stopped("celery-worker"):
        yield [site.enqueue_add(number, number) for number in range(2)]


@pytest.mark.once
def test_nothing_is_thrown_away_to_make_room(machine: Machine, secrets: dict[str, str], accepted: list[str]) -> None:
    megabytes = [f"SETRANGE full:{number} 4000000 x" for number in range(16)]
    try:
        # Only room that eviction would have made could let the last of them in.
        assert "OOM" in redis(machine, secrets, *megabytes)
        # Beat may have sent one more meanwhile.
        waiting = redis(machine, secrets, r'LLEN "celery\x06\x165"')  # those of priority 5, the default
        assert int(waiting) >= len(accepted)
    finally:
        redis(machine, secrets, *(f"DEL full:{number}" for number in range(16)))


@pytest.mark.once
def test_accepted_tasks_survive_the_death_of_redis(machine: Machine, site: Website, accepted: list[str]) -> None:
    machine.kill("redis-server")
    machine.systemctl("start", "celery-worker")

    for number, task in enumerate(accepted):
        eventually(lambda task=task: site.task(task)["state"] == "SUCCESS", 40)  # type: ignore[misc]
        assert site.task(task)["result"] == number * 2
