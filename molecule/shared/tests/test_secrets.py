"""No secret of the inventory is where somebody could come upon it."""

from __future__ import annotations

import json
import os
import shlex
from functools import partial
from pathlib import Path

import pytest
from stack import watch
from stack.machine import BROKER_UNIT, PROCESSES, Machine
from stack.playbook import Run
from stack.web import Website
from testinfra.host import Host

from testkit.waiting import eventually

# Looks for the secrets on its standard input; a match names the file. Root runs it, who may read all that has a name.
SEARCH = """
set -eu
umask 077
list=$(mktemp -p /run)
trap 'rm -f "$list"' EXIT
cat > "$list" <<'END'
{secrets}
END
{find} | {{
  xargs -0 --no-run-if-empty grep --fixed-strings --files-with-matches --no-messages --file "$list" || [ $? = 123 ]
}}
"""


def names_of_secrets_in(text: str, secrets: dict[str, str]) -> list[str]:
    """Return which secrets stand in a text: their names, for the test's own failure is a log too."""
    return [name for name, secret in secrets.items() if secret in text]


def test_there_are_secrets(secrets: dict[str, str]) -> None:
    assert {"redis_password", "secret_key", "flower_password", "admin_password"} <= set(secrets)
    assert min(map(len, secrets.values())) >= 20


@pytest.mark.once
@pytest.mark.parametrize("account", ["nobody", "site"])
def test_no_secret_in_a_file_that_others_can_read(machine: Machine, secrets: dict[str, str], account: str) -> None:
    # The account itself looks for the files, so every folder above them counts.
    find = f"runuser -u {account} -- find / /run /dev/shm -xdev -type f -readable -size -64M -print0 2>/dev/null"
    found = machine.feed(SEARCH.format(secrets="\n".join(secrets.values()), find=find)).splitlines()

    assert found == []


@pytest.mark.last
def test_no_secret_in_the_journal(machine: Machine, secrets: dict[str, str]) -> None:
    journal = machine.root.check_output(
        "journalctl --no-pager --output=verbose --all | grep --text -v '^ *_CMDLINE=.*journalctl'"
    )

    assert names_of_secrets_in(journal, secrets) == []


@pytest.mark.last
def test_no_secret_in_a_command_line(machine: Machine, secrets: dict[str, str]) -> None:
    lines = watch.seen(machine)

    assert "celeriac" in lines, "nothing was watched"
    assert names_of_secrets_in(lines, secrets) == []


@pytest.mark.last
def test_no_secret_in_what_ansible_prints(secrets: dict[str, str]) -> None:
    """The first converge and all later runs were as talkative as `-vv --diff` makes them."""
    log = Path(os.environ["ANSIBLE_LOG_PATH"]).read_text()

    assert "PLAY RECAP" in log
    assert names_of_secrets_in(log, secrets) == []


def reversed_in(name: str, choices: dict[str, object]) -> dict[str, str]:
    """Return another password, as an inventory has it."""
    return {name: str(choices[name])[::-1]}


@pytest.mark.once
@pytest.mark.last
@pytest.mark.debian(12)
def test_admin_has_the_password_that_the_inventory_gives(
    machine: Machine, ansible: partial[Run], choices: dict[str, object], stranger: Website
) -> None:
    """Nothing else changes, and no process is replaced for it."""

    def opens(password: object) -> bool:
        browser = Website(stranger.domain, stranger.address, stranger.certificate)
        return browser.log_in("admin", str(password)).status == 302

    name = "vault_site_admin_password"
    new = reversed_in(name, choices)
    before = [machine.show(process, "MainPID") for process in PROCESSES]
    try:
        run = ansible("--extra-vars", json.dumps(new))
        assert run.status == 0, run.output
        assert opens(new[name])
        assert not opens(choices[name])
        assert [machine.show(process, "MainPID") for process in PROCESSES] == before
    finally:
        run = ansible()
    assert opens(choices[name]), run.output


@pytest.mark.once
@pytest.mark.last
@pytest.mark.debian(12)
@pytest.mark.skipif(BROKER_UNIT != "redis-server", reason="the broker is RabbitMQ")
def test_passwords_change_while_everything_goes_on(
    machine: Machine, host: Host, ansible: partial[Run], choices: dict[str, object], secrets: dict[str, str]
) -> None:
    """Of Redis and of the database: the old one holds until nothing has it; the run after that takes it away."""

    def lets_in(password: object) -> bool:
        script = f"REDISCLI_AUTH={shlex.quote(str(password))} redis-cli --user site PING 2>&1"
        return machine.feed(script) == "PONG\n"

    def users() -> set[str]:
        roles = "SELECT rolname FROM pg_roles WHERE rolname ~ '^site_[0-9a-f]{8}$'"
        return set(host.check_output("cd / && runuser -u postgres -- psql -tAc %s", roles).split())

    name = "vault_redis_password"
    new = {**reversed_in(name, choices), "vault_database_password": secrets["database_password"][::-1]}
    old_user = users()
    began = host.check_output("date +%s")
    try:
        run = ansible("--extra-vars", json.dumps(new))
        assert run.status == 0, run.output
        assert lets_in(new[name])
        assert len(users()) == 2
        assert old_user < users()

        eventually(
            lambda: not host.check_output("systemctl list-units --state=deactivating --no-legend 'celery-*'"), 120
        )
        run = ansible("--extra-vars", json.dumps(new))
        assert run.status == 0, run.output
        assert lets_in(new[name])
        assert not lets_in(choices[name])
        assert len(users()) == 1
        assert not old_user & users()
    finally:
        run = ansible()
    assert lets_in(choices[name]), run.output
    # No process was ever refused, also none that was on its way out.
    names = " ".join(f"--identifier={process}" for process in PROCESSES)
    words = "invalid username-password|WRONGPASS|NOAUTH|password authentication failed"
    assert host.run(f"journalctl --since=@{began} {names} | grep --extended-regexp '{words}'").stdout == ""
