"""With `site_broker: rabbitmq` the broker is RabbitMQ: it keeps what it has accepted, and lets in nobody but the site.

`CELERIAC_BROKER=rabbitmq bin/test default-13` deploys it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial

import pytest
from stack.machine import BROKER_UNIT, PROCESSES, Machine
from stack.playbook import Run
from stack.web import Website
from testinfra.host import Host

from testkit.waiting import eventually

UNIT = "rabbitmq-server"
UNITS = (UNIT, "epmd", "celery-worker", "celery-beat")
PORTS = {"5672", "25672", "4369"}

pytestmark = pytest.mark.skipif(BROKER_UNIT != UNIT, reason="the broker is Redis")


def rabbitmqctl(host: Host, words: str) -> str:
    """Return what rabbitmqctl prints."""
    said: str = host.check_output(f"rabbitmqctl --quiet {words}")
    return said


def users(host: Host) -> set[str]:
    """Return the users that RabbitMQ knows."""
    return {user["user"] for user in json.loads(rabbitmqctl(host, "list_users --formatter=json"))}


@pytest.mark.parametrize(
    "command",
    [
        "systemctl start rabbitmq-server",
        "systemctl enable rabbitmq-server",
        "systemctl status rabbitmq-server",
        "service rabbitmq-server status",
        "rabbitmqctl version",
    ],
)
def test_command_works_as_for_any_service(host: Host, command: str) -> None:
    assert host.run(command).rc == 0


def test_it_listens_for_this_host_only(host: Host) -> None:
    rabbitmqctl(host, "status --formatter=json")  # whatever it listens on itself for that
    listening = [line.split()[3].rpartition(":") for line in host.check_output("ss -Hlnt").splitlines()]

    assert {port for _, _, port in listening} >= PORTS
    assert {address for address, _, port in listening if port in PORTS} == {"127.0.0.1"}


def test_nobody_is_known_but_the_site(host: Host) -> None:
    (user,) = users(host)
    assert re.fullmatch(r"site_[0-9a-f]{8}", user)
    assert rabbitmqctl(host, "list_vhosts --no-table-headers").split() == ["site"]
    assert json.loads(rabbitmqctl(host, "list_users --formatter=json"))[0]["tags"] == []


@pytest.mark.parametrize(("user", "password"), [("guest", "guest"), ("", "wrong")])
def test_a_stranger_is_refused(host: Host, user: str, password: str) -> None:
    name = user or users(host).pop()
    script = f"import kombu; kombu.Connection('amqp://{name}:{password}@127.0.0.1/site').connect()"
    said = host.run("/srv/site/current/venv/bin/python -c %s", script)

    assert "ACCESS_REFUSED" in said.stderr


def test_no_password_is_where_others_can_read_it(host: Host) -> None:
    assert host.check_output("stat --format '%a %U %G' /etc/rabbitmq/definitions.d/site.json") == "640 root rabbitmq"


def test_its_words_are_in_the_journal(machine: Machine, host: Host) -> None:
    start = machine.show(UNIT, "InvocationID")
    said = host.check_output("journalctl --no-pager -o cat _SYSTEMD_INVOCATION_ID=%s", start)
    assert "Server startup complete" in said


def test_the_queue_outlives_rabbitmq_and_knows_ten_priorities(host: Host) -> None:
    rows = json.loads(rabbitmqctl(host, "list_queues --vhost=site --formatter=json name arguments durable"))
    (queue,) = [row for row in rows if row["name"] == "celery"]
    assert queue["durable"]
    assert ["x-max-priority", "signedint", 9] in queue["arguments"]


@pytest.fixture(scope="module")
def accepted(machine: Machine, site: Website) -> Iterator[list[str]]:
    """Tasks that are in the queue while the worker is stopped."""
    with machine.stopped("celery-worker"):
        yield [site.enqueue_add(number, number) for number in range(2)]


@pytest.mark.once
def test_accepted_tasks_survive_the_death_of_rabbitmq(machine: Machine, site: Website, accepted: list[str]) -> None:
    machine.kill(UNIT)
    machine.wait_until_active(UNIT, 120)
    machine.systemctl("start", "celery-worker")

    for number, task in enumerate(accepted):
        eventually(lambda task=task: site.task(task)["state"] == "SUCCESS", 90)  # type: ignore[misc]
        assert site.task(task)["result"] == number * 2


@pytest.mark.once
def test_everything_works_again_after_a_while_without_it(machine: Machine, site: Website) -> None:
    with machine.stopped(UNIT):
        eventually(lambda: site.get("/health/").status == 503, 30)
    eventually(lambda: site.get("/health/").status == 200, 60)
    task = site.enqueue_add(1, 1)
    eventually(lambda: site.task(task)["state"] == "SUCCESS", 90)
    for unit in PROCESSES:
        assert machine.state(unit) == "active"


@pytest.mark.once
def test_a_full_one_says_so_and_is_emptied(host: Host, site: Website) -> None:
    rabbitmqctl(host, "set_vm_memory_high_watermark 0")
    try:
        eventually(lambda: json.loads(site.get("/health/").body)["broker"] == "full", 60)
        assert site.get("/health/").status == 200
    finally:
        rabbitmqctl(host, "set_vm_memory_high_watermark absolute 384MB")
    eventually(lambda: json.loads(site.get("/health/").body)["broker"] == "ok", 60)


@pytest.mark.once
@pytest.mark.last
def test_a_password_changes_while_everything_goes_on(host: Host, ansible: partial[Run]) -> None:
    """The old one holds until nothing has it; the run after that takes it away."""
    (before,) = users(host)
    new = json.dumps({"vault_rabbitmq_password": "another one"})
    try:
        run = ansible("--extra-vars", new)
        assert run.status == 0, run.output
        assert before in users(host)
        assert len(users(host)) == 2
        eventually(
            lambda: not host.check_output("systemctl list-units --state=deactivating --no-legend 'celery-*'"), 120
        )
        run = ansible("--extra-vars", new)
        assert run.status == 0, run.output
        assert len(users(host)) == 1
        assert before not in users(host)
    finally:
        run = ansible()
    assert run.status == 0, run.output
