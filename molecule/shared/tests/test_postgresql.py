"""The processes may use the tables and not change them; nobody else gets in."""

from __future__ import annotations

import re
import shlex
from typing import Any
from urllib.parse import urlsplit

import pytest
from stack.machine import BROKER_UNIT, Machine
from stack.web import Website
from testinfra.backend.base import CommandResult
from testinfra.host import Host

from testkit.waiting import eventually

UNITS = ("postgresql@*", "gunicorn")
BROKER_ACCOUNT = BROKER_UNIT.removesuffix("-server")


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


@pytest.mark.parametrize("account", ["nobody", "admin", "www-data", BROKER_ACCOUNT])
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
    names = roles.stdout.split()
    assert "site" in names
    # Beat, who has a password for it.
    assert [name for name in names if re.fullmatch(r"site_[0-9a-f]{8}", name)]
    assert not [name for name in names if name.startswith("site_deploy")]


def with_password(machine: Machine, user: str, password: str, statement: str) -> str:
    """Return what a statement says to who logs in over TCP, in a transaction that is rolled back."""
    psql = f"psql --no-psqlrc --tuples-only --no-align --set=ON_ERROR_STOP=1 --host=127.0.0.1 --username={user} site"
    return machine.feed(
        f"PGPASSWORD={shlex.quote(password)} {psql} -c BEGIN -c {shlex.quote(statement)} -c ROLLBACK 2>&1 || true"
    )


def test_who_logs_in_with_a_password_is_the_role_of_its_account(
    machine: Machine, host: Host, secrets: dict[str, str]
) -> None:
    """What a process must not it still must not, and what the owner makes is for the processes."""
    made = "CREATE TABLE probe (); SELECT tableowner FROM pg_tables WHERE tablename = 'probe'"
    beat = urlsplit(machine.environment("celery-beat")["DATABASE_URL"])
    process, password = beat.username or "", beat.password or ""
    owners = query(host, "postgres", "SELECT rolname FROM pg_roles WHERE rolname ~ '^site_deploy_'").stdout.split()
    (owner,) = [name for name in owners if name.startswith("site")]

    assert "permission denied" in with_password(machine, process, password, made)
    assert "site_deploy" in with_password(machine, owner, secrets["database_owner_password"], made).split()
    assert "password authentication failed" in with_password(machine, process, "another", "SELECT 1")


def test_nobody_else_has_a_password(host: Host) -> None:
    names = query(host, "postgres", "SELECT rolname FROM pg_authid WHERE rolpassword IS NOT NULL").stdout.split()

    assert {re.sub("_[0-9a-f]{8}$", " with one", name) for name in names} == {
        *("BEGIN", "ROLLBACK"),
        *("site with one", "site_deploy with one"),
    }


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
