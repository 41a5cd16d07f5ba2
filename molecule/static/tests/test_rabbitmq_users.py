"""RabbitMQ is told hashes of passwords, and knows a user as long as something logs in as it."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.celeriac.site.plugins.module_utils import site_processes
from ansible_collections.celeriac.site.plugins.module_utils.site_names import Names
from ansible_collections.celeriac.site.plugins.modules.rabbitmq_users import (
    definitions,
    fits,
    hashed,
    installed_version,
    quorum_definitions,
)


def test_a_password_is_kept_as_rabbitmq_keeps_it() -> None:
    """The example of its documentation."""
    assert hashed("test12", bytes.fromhex("908dc60a")) == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def test_it_is_known_again() -> None:
    kept = hashed("a b/@:é", b"1234")

    assert fits("a b/@:é", kept)
    assert not fits("a b/@:e", kept)


def test_a_user_may_do_everything_in_its_virtual_host_and_nothing_else() -> None:
    told = definitions("site", {"site_0123abcd": base64.b64encode(b"x").decode()})

    assert told["vhosts"] == [{"name": "site"}]
    assert [(each["user"], each["vhost"]) for each in told["permissions"]] == [("site_0123abcd", "site")]
    assert told["users"][0]["tags"] == []


def test_who_is_in_the_environment_of_a_unit_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    units: Any = [b'CELERIAC_BROKER_URL="amqp://site_00000001:p@127.0.0.1:5672/site"\n']
    monkeypatch.setattr(site_processes, "environments", lambda systemd, names: units)
    nobody: Any = SimpleNamespace()

    assert site_processes.logged_in_as({"site_00000001", "site_00000002"}, nobody, Names(), {}) == {"site_00000001"}


@pytest.mark.parametrize(("version", "limited"), [(3, False), (4, True)])
def test_queues_of_a_cluster_are_on_several_hosts_and_drop_nothing(version: int, limited: bool) -> None:
    """What is no limit RabbitMQ 3.10 does not know, and has none of its own."""
    told = quorum_definitions("site", version)

    assert told["vhosts"][0]["metadata"]["default_queue_type"] == "quorum"
    assert [policy["definition"] for policy in told.get("policies", [])] == [{"delivery-limit": -1}] * limited


def test_the_version_is_that_of_the_library(tmp_path: Path) -> None:
    assert installed_version(tmp_path) == 0
    (tmp_path / "rabbitmq_server-4.0.5").mkdir()
    assert installed_version(tmp_path) == 4
