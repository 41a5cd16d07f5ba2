"""A broker of several hosts: which are refused, and which are right."""

from __future__ import annotations

from typing import Any

import pytest

HOSTS_FILE = "hosts.yml"
CHOICES_FILE = "group_vars/all/main.yml"


def spread(inventory: Any, brokers: int, choices: str = "site_broker: rabbitmq\n", address: str = "10.0.0.{}") -> None:
    """Make an inventory of a site whose broker has so many hosts; the first of them does all else."""
    lines = ["---", "all:", "  hosts:"]
    for number in range(1, brokers + 1):
        lines.append(f"    h{number}: {{ ansible_host: 127.0.0.1, site_cluster_address: '{address.format(number)}' }}")
    lines.append("  children:")
    lines += [f"    {group}: {{ hosts: {{ h1: }} }}" for group in ("web", "workers", "beat", "monitor", "database")]
    lines.append(f"    broker: {{ hosts: {{ {', '.join(f'h{number}: ' for number in range(1, brokers + 1))} }} }}")
    inventory.hosts("\n".join(lines) + "\n")
    inventory.choose(choices)


@pytest.mark.parametrize("brokers", [1, 3, 5])
def test_an_odd_number_of_hosts_is_right(inventory: Any, brokers: int) -> None:
    spread(inventory, brokers)
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


def test_addresses_that_erlang_takes_for_no_name_are_refused(inventory: Any) -> None:
    spread(inventory, 3, address="fd00::{}")
    assert ["takes those of IPv4 alone" in problem.what for problem in inventory.problems()] == [True] * 3
