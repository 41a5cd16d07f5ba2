#!/usr/bin/python
"""Keep the users of the site's database that log in with a password."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import SystemdError
from ansible_collections.celeriac.site.plugins.module_utils.site_names import DEFAULT, Names
from ansible_collections.celeriac.site.plugins.module_utils.site_processes import logged_in_as
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Systemd

DOCUMENTATION = r"""
module: database_users
short_description: Users of the site's database log in with a password
description:
  - PostgreSQL knows one password of a user, and a unit logs in with the one that it was started with until it has
    ended; on and on where the release that should replace it is undone. So each password has a user of its own, who
    acts as the role of its account, and stays until nothing on the host has its name in its environment.
  - The server is given what it keeps of a password, and not the password.
  - One that follows another server is told nothing. It has its users from there.
options:
  site_name:
    description: What the inventory calls the site.
    type: str
    default: default
  accounts:
    description: The roles that users act as. A name behind which there are 8 hexadecimal digits is one of theirs.
    type: list
    elements: str
    required: true
  users:
    description: The users that there should be, with their passwords.
    type: dict
    required: true
  elsewhere:
    description:
      - What processes of other hosts log in with, as the C(users) that M(celeriac.site.site_logins) has found there,
        and whether those are C(complete). Where they are not, no user is taken away.
    type: dict
    default: {}
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The processes log in with their password
  celeriac.site.database_users:
    accounts: [site, site_deploy]
    users: { site_0123abcd: "{{ vault_database_password }}" }
"""

RETURN = r"""
added:
  description: The users that are new.
  returned: always
  type: list
removed:
  description: The users that nothing logs in as any more.
  returned: always
  type: list
"""

PSQL = [
    "psql",
    "--no-psqlrc",
    "--quiet",
    "--tuples-only",
    "--no-align",
    "--set=ON_ERROR_STOP=1",
    "--single-transaction",
]
# As PostgreSQL makes them by itself (scram_iterations).
ITERATIONS = 4096
SALT_BYTES = 16


def verifier(password: str, salt: bytes) -> str:
    """Return what PostgreSQL keeps of a password (RFC 5803). Of ASCII: for other signs RFC 4013 would have a say."""

    def encoded(value: bytes) -> str:
        return base64.b64encode(value).decode()

    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    client, server = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    stored = hashlib.sha256(client).digest()
    return f"SCRAM-SHA-256${ITERATIONS}:{encoded(salt)}${encoded(stored)}:{encoded(server)}"


def account_of(user: str) -> str:
    """Return the role that a user acts as."""
    return user.rpartition("_")[0]


def added(user: str, password: str) -> str:
    """Return the statements that make a user. What a session of it makes belongs to the role that it acts as."""
    account = account_of(user)
    return (
        f"CREATE ROLE {user} LOGIN IN ROLE {account} PASSWORD '{verifier(password, os.urandom(SALT_BYTES))}';"
        f"ALTER ROLE {user} SET role = '{account}';"
    )


def ask(module: AnsibleModule, statements: str) -> str:
    """Return what PostgreSQL answers; it fails the module where that is an error."""
    command = ["runuser", "--user=postgres", "--", *PSQL, "--file=-", "postgres"]
    code, output, error = module.run_command(command, data=statements, cwd="/")
    if code != 0:
        # The lines behind the first one repeat the statement.
        module.fail_json(msg=f"PostgreSQL refuses: {error.partition(chr(10))[0]}")
    return str(output)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "site_name": {"type": "str", "default": DEFAULT},
            "accounts": {"type": "list", "elements": "str", "required": True},
            "users": {"type": "dict", "required": True, "no_log": True},
            "elsewhere": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    wanted: Mapping[str, str] = module.params["users"]
    pattern = f"^({'|'.join(module.params['accounts'])})_[0-9a-f]{{8}}$"
    query = f"SELECT pg_is_in_recovery(); SELECT rolname FROM pg_roles WHERE rolname ~ '{pattern}';"
    follows, *there = ask(module, query).split()
    if follows == "t":
        module.exit_json(changed=False, added=[], removed=[])
    try:
        others = [user for user in there if user not in wanted]
        names = Names(module.params["site_name"])
        kept = logged_in_as(others, Systemd(module.run_command), names, module.params["elsewhere"])
    except SystemdError as error:
        module.fail_json(msg=str(error))
    old = [user for user in others if user not in kept]
    new = [user for user in wanted if user not in there]
    statements = [added(user, wanted[user]) for user in new] + [f"DROP ROLE {user};" for user in old]
    if statements and not module.check_mode:
        ask(module, "\n".join(statements))
    module.exit_json(changed=bool(statements), added=new, removed=old)


if __name__ == "__main__":
    main()
