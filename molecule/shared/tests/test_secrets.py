"""No secret of the inventory is where somebody could come upon it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from stack import watch
from stack.machine import Machine

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
