"""The processes may use the tables and not change them; nobody else gets in."""

from __future__ import annotations

from typing import Any

import pytest
from stack.machine import Machine
from stack.web import Website
from testinfra.backend.base import CommandResult
from testinfra.host import Host

from testkit.waiting import eventually

UNITS = ("postgresql@*", "gunicorn")


def query(host: Host, account: str, statement: str) -> CommandResult:
    """Run a statement as a system account, in a transaction that is rolled back."""
    psql = "psql --no-psqlrc --tuples-only --no-align --set=ON_ERROR_STOP=1"
    return host.run("cd / && runuser -u %s -- " + psql + " -c BEGIN -c %s -c ROLLBACK site", account, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE intruder (id integer)",
        "ALTER TABLE app_post ADD COLUMN intruder integer",
        "DROP TABLE app_post",
        "TRUNCATE app_post",
        "CREATE SCHEMA intruder",
        "SET ROLE site_deploy",
    ],
)
def test_processes_cannot_change_the_schema(host: Host, statement: str) -> None:
    answer = query(host, "site", statement)

    assert answer.rc != 0
    assert "permission denied" in answer.stderr or "must be owner" in answer.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM app_post",
        "INSERT INTO app_post (title, text, view_count, created_at) VALUES ('a', 'b', 0, now())",
        "UPDATE app_post SET view_count = 0",
        "DELETE FROM app_post",
    ],
)
def test_processes_can_use_the_rows(host: Host, statement: str) -> None:
    assert query(host, "site", statement).rc == 0


@pytest.mark.parametrize("account", ["nobody", "admin", "www-data", "redis"])
def test_other_accounts_are_refused(host: Host, account: str) -> None:
    assert "FATAL" in query(host, account, "SELECT 1").stderr


@pytest.mark.parametrize("role", ["site", "site_deploy", "postgres"])
def test_account_cannot_take_the_role_of_another(host: Host, role: str) -> None:
    answer = host.run("cd / && runuser -u nobody -- psql -U %s -c 'SELECT 1' site", role)

    assert "Peer authentication failed" in answer.stderr


def test_processes_come_as_the_role_without_rights(host: Host, site: Website) -> None:
    assert site.get("/").status == 200

    roles = query(
        host,
        "postgres",
        "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = 'site' AND pid <> pg_backend_pid()",
    )
    assert "site" in roles.stdout.split()
    assert "site_deploy" not in roles.stdout.split()


def test_a_setting_is_as_it_was_chosen(host: Host, choices: dict[str, Any]) -> None:
    for name, value in choices["postgresql_settings"].items():
        assert query(host, "postgres", f"SHOW {name}").stdout.splitlines()[1:-1] == [value]


@pytest.mark.once
def test_a_task_that_runs_while_the_database_restarts_has_its_result(machine: Machine, site: Website) -> None:
    task = site.enqueue_add(1, 1)
    eventually(lambda: site.task(task)["state"] == "STARTED", 10)

    machine.systemctl("restart", "postgresql@*")

    eventually(lambda: site.task(task)["state"] not in {"PENDING", "STARTED"}, 20)
    assert site.task(task)["state"] == "SUCCESS"
