"""A broker, and a database, of several hosts: which are refused, and which are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

HOSTS_FILE = "hosts.yml"
CHOICES_FILE = "group_vars/all/main.yml"


def spread(
    inventory: Any,
    hosts: int,
    choices: str = "site_broker: rabbitmq\n",
    address: str = "10.0.0.{}",
    engine: str = "broker",
) -> None:
    """Make an inventory of a site an engine of which has so many hosts; the first of them does all else."""
    lines = ["---", "all:", "  hosts:"]
    for number in range(1, hosts + 1):
        lines.append(f"    h{number}: {{ ansible_host: 127.0.0.1, site_cluster_address: '{address.format(number)}' }}")
    lines.append("  children:")
    alone = {"web", "workers", "beat", "monitor", "broker", "database"} - {engine}
    lines += [f"    {group}: {{ hosts: {{ h1: }} }}" for group in sorted(alone)]
    lines.append(f"    {engine}: {{ hosts: {{ {', '.join(f'h{number}: ' for number in range(1, hosts + 1))} }} }}")
    inventory.hosts("\n".join(lines) + "\n")
    inventory.choose(choices)


@pytest.mark.parametrize("engine", ["broker", "database"])
@pytest.mark.parametrize("hosts", [1, 3, 5])
def test_an_odd_number_of_hosts_is_right(inventory: Any, hosts: int, engine: str) -> None:
    spread(inventory, hosts, engine=engine)
    assert inventory.problems() == []


def test_several_hosts_may_stand_beside_a_broker_elsewhere(inventory: Any) -> None:
    spread(inventory, 2, "site_broker: amqps://site@mq.mysite.test/site\nvault_broker_password: abc\n")
    assert inventory.problems() == []


WRONG = {
    "two": (2, "site_broker: rabbitmq\n", HOSTS_FILE, "two cannot outvote each other"),
    "four": (4, "site_broker: rabbitmq\n", HOSTS_FILE, "no more of them may be lost than of 3"),
    "seven": (7, "site_broker: rabbitmq\n", HOSTS_FILE, "each task would wait for 4 disks"),
    "of Redis": (3, "site_broker: redis\n", CHOICES_FILE, "`site_broker` is redis"),
    "after Redis": (
        3,
        "site_broker: rabbitmq\nsite_broker_before: redis\n",
        CHOICES_FILE,
        "`site_broker_before` is redis",
    ),
    "with results": (
        3,
        "site_broker: rabbitmq\nsite_result_backend: redis\n",
        CHOICES_FILE,
        "`site_result_backend` is redis",
    ),
    "with a cache": (3, "site_broker: rabbitmq\nsite_redis_cache: true\n", CHOICES_FILE, "`site_redis_cache` is true"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_would_lose_tasks_or_stand_still_is_refused(inventory: Any, case: str) -> None:
    brokers, choices, place, words = WRONG[case]
    spread(inventory, brokers, choices)
    (problem,) = inventory.problems()
    assert words in problem.what
    assert place in str(problem.place)
    assert problem.example


WRONG_DATABASES = {
    "two": (2, "", HOSTS_FILE, "two cannot outvote each other"),
    "four": (4, "", HOSTS_FILE, "no more of them may be lost than of 3"),
    "seven": (7, "", HOSTS_FILE, "each write would wait for 4 disks"),
    "of one of several sites": (3, "site_name: shop\n", CHOICES_FILE, "`site_name` is shop"),
    "with backups": (3, "backup_repository: local\n", CHOICES_FILE, "`backup_repository` is local"),
}


@pytest.mark.parametrize("case", WRONG_DATABASES)
def test_a_database_that_could_not_be_kept_is_refused(inventory: Any, case: str) -> None:
    hosts, choices, place, words = WRONG_DATABASES[case]
    spread(inventory, hosts, choices, engine="database")
    (problem,) = inventory.problems()
    assert words in problem.what
    assert place in str(problem.place)
    assert problem.example


@pytest.mark.parametrize(("engine", "words"), [("broker", "takes those of IPv4"), ("database", "by addresses of IPv4")])
def test_addresses_that_an_engine_does_not_take_are_refused(inventory: Any, engine: str, words: str) -> None:
    spread(inventory, 3, address="fd00::{}", engine=engine)
    assert [words in problem.what for problem in inventory.problems()] == [True] * 3


# ── What goes on while a host is lost ────────────────────────────────────────────────────────────

ALL = ("web", "workers", "beat", "monitor", "broker", "database")


def on_three(inventory: Any, but: Sequence[str] = (), choices: str = "") -> None:
    """Make an inventory whose groups have three hosts each, but for these, and Flower, which have one."""
    lines = ["---", "all:", "  hosts:"]
    lines += [
        f"    h{number}: {{ ansible_host: 127.0.0.1, site_cluster_address: 10.0.0.{number} }}" for number in (1, 2, 3)
    ]
    lines.append("  children:")
    for group in ALL:
        hosts = "h1: " if group in ("monitor", *but) else "h1: , h2: , h3: "
        lines.append(f"    {group}: {{ hosts: {{ {hosts} }} }}")
    inventory.hosts("\n".join(lines) + "\n")
    broker = "" if "site_broker" in choices else "site_broker: rabbitmq\n"
    inventory.choose(f"{broker}site_survives: host\n{choices}")


def test_what_is_on_three_hosts_survives_one(inventory: Any) -> None:
    on_three(inventory)
    assert inventory.problems() == []


@pytest.mark.parametrize("group", ["web", "workers", "beat", "broker", "database"])
def test_what_is_on_one_host_does_not(inventory: Any, group: str) -> None:
    on_three(inventory, but=[group])
    (problem,) = inventory.problems()
    assert f"the group `{group}` is one host" in problem.what
    assert "none until h1 is back" in problem.what
    assert problem.example.startswith(f"{group}: {{ hosts: {{ host1: , host2: ")


def test_what_is_elsewhere_is_not_ours_to_promise(inventory: Any) -> None:
    on_three(
        inventory,
        ["broker", "database"],
        "site_broker: amqps://site@mq.mysite.test/site\nvault_broker_password: abc\n"
        "site_environment: { DATABASE_URL: postgresql://db.mysite.test/site }\n",
    )
    assert inventory.problems() == []
