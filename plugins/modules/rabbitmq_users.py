#!/usr/bin/python
"""Keep the site's virtual host in RabbitMQ, and the users that log in to it."""

from __future__ import annotations

import base64
import grp
import hashlib
import hmac
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import SystemdError
from ansible_collections.celeriac.site.plugins.module_utils.site_names import DEFAULT, Names
from ansible_collections.celeriac.site.plugins.module_utils.site_processes import logged_in_as
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Systemd

DOCUMENTATION = r"""
module: rabbitmq_users
short_description: The site's virtual host in RabbitMQ, and its users
description:
  - RabbitMQ knows one password of a user, and a unit logs in with the one that it was started with until it has
    ended; on and on where the release that should replace it is undone. So each password has a user of its own, who
    stays until nothing on the host has its name in its environment.
  - What RabbitMQ was told is in a file that it also reads when it starts. Only where that is to change is it asked
    anything, for its command takes a second. The file, and what is told, has hashes of the passwords alone.
  - On a cluster queues have their messages on several members (quorum queues), also those of which nobody says so, and
    no limit of deliveries; RabbitMQ 4 would drop what was given back 20 times.
  - The user C(guest), whose password everybody knows, is deleted.
options:
  site_name:
    description: What the inventory calls the site.
    type: str
    default: default
  virtual_host:
    description: The name of the virtual host, where the users may do everything, and nothing elsewhere.
    type: str
    required: true
  users:
    description: The users that there should be, with their passwords. A name ends with 8 hexadecimal digits.
    type: dict
    required: true
  definitions:
    description: The file. Its folder is there, and RabbitMQ reads it.
    type: path
    required: true
  elsewhere:
    description:
      - What processes of other hosts log in with, as the C(users) that M(celeriac.site.site_logins) has found there,
        and whether those are C(complete). Where they are not, no user is taken away.
    type: dict
    default: {}
  members:
    description: How many nodes the cluster has; 1 for a RabbitMQ that is none.
    type: int
    default: 1
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The processes log in to RabbitMQ with their password
  celeriac.site.rabbitmq_users:
    virtual_host: site
    users: { site_0123abcd: "{{ vault_rabbitmq_password }}" }
    definitions: /etc/rabbitmq/definitions.d/site.json
"""

RETURN = r"""
added:
  description: The users that are new, or have another password.
  returned: always
  type: list
removed:
  description: The users that nothing logs in as any more.
  returned: always
  type: list
"""

ALGORITHM = "rabbit_password_hashing_sha256"
SALT_BYTES = 4
TIMEOUT_SECONDS = 60
GUEST = "guest"
# With its version behind it.
LIBRARY = Path("/usr/lib/rabbitmq/lib")
# The first version that has a limit of its own for deliveries, and one for which a policy can say that there is none.
LIMITED = 4


def hashed(password: str, salt: bytes) -> str:
    """Return what RabbitMQ keeps of a password (https://www.rabbitmq.com/docs/passwords#computing-password-hash)."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def fits(password: str, kept: str) -> bool:
    """Return whether this is what RabbitMQ keeps of a password."""
    return hmac.compare_digest(hashed(password, base64.b64decode(kept)[:SALT_BYTES]), kept)


def definitions(virtual_host: str, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Return what RabbitMQ is told: a virtual host, and who may do everything there.

    Args:
        virtual_host: its name.
        hashes: of the passwords, by the names of the users.
    """
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    return {
        "vhosts": [{"name": virtual_host}],
        "users": [
            {"name": name, "password_hash": kept, "hashing_algorithm": ALGORITHM, "tags": []}
            for name, kept in sorted(hashes.items())
        ],
        "permissions": [{"user": name, "vhost": virtual_host, **everything} for name in sorted(hashes)],
    }


def quorum_definitions(virtual_host: str, version: int) -> dict[str, Any]:
    """Return what a cluster is told beside that: which queues are replicated, and that they keep what they have.

    Args:
        virtual_host: its name.
        version: the first number of that of RabbitMQ.
    """
    told: dict[str, Any] = {"vhosts": [{"name": virtual_host, "metadata": {"default_queue_type": "quorum"}}]}
    if version >= LIMITED:
        told["policies"] = [
            {
                "vhost": virtual_host,
                "name": "celeriac",
                "pattern": ".*",
                "apply-to": "quorum_queues",
                "definition": {"delivery-limit": -1},
                "priority": 0,
            }
        ]
    return told


def installed_version(library: Path) -> int:
    """Return the first number of the version of RabbitMQ that is there; 0 for none."""
    found = [re.fullmatch(r"rabbitmq_server-(\d+)\..*", path.name) for path in library.glob("rabbitmq_server-*")]
    return max((int(each.group(1)) for each in found if each), default=0)


def told(file: Path) -> dict[str, Any]:
    """Return what RabbitMQ was told last; nothing where that cannot be read."""
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found


def ask(module: AnsibleModule, *words: str) -> str:
    """Return what `rabbitmqctl` prints; it fails the module where that has failed."""
    command = ["rabbitmqctl", "--quiet", f"--timeout={TIMEOUT_SECONDS}", *words]
    code, output, error = module.run_command(command, cwd="/")
    if code != 0:
        module.fail_json(msg=f"rabbitmqctl {words[0]} has failed: {(error or output).strip()}")
    return str(output)


def write(text: str, file: Path) -> None:
    """Write a file that root may write, and RabbitMQ may read."""
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(text)
        os.fchown(descriptor, 0, grp.getgrnam("rabbitmq").gr_gid)
        os.fchmod(descriptor, 0o640)
        opened.flush()
        os.fsync(descriptor)


def change(module: AnsibleModule, wanted: dict[str, Any]) -> None:
    """Tell RabbitMQ what it should have; the file has its name when it has it."""
    file = Path(module.params["definitions"])
    new = file.with_name(f"{file.name}.new")  # at its start RabbitMQ reads what ends with .json
    write(json.dumps(wanted, indent=1), new)
    ask(module, "import_definitions", "--format=json", str(new))
    names = {user["name"] for user in wanted["users"]}
    there = [user["user"] for user in json.loads(ask(module, "list_users", "--formatter=json"))]
    # One of ours: those of another site, and an operator's own, are left alone.
    ours = re.compile(rf"{re.escape(module.params['virtual_host'])}_[0-9a-f]{{8}}")
    for name in there:
        if name == GUEST or (ours.fullmatch(name) and name not in names):
            ask(module, "delete_user", name)
    new.replace(file)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "site_name": {"type": "str", "default": DEFAULT},
            "virtual_host": {"type": "str", "required": True},
            "users": {"type": "dict", "required": True, "no_log": True},
            "elsewhere": {"type": "dict", "default": {}},
            "definitions": {"type": "path", "required": True},
            "members": {"type": "int", "default": 1},
        },
        supports_check_mode=True,
    )
    before = told(Path(module.params["definitions"]))
    hashes = {user["name"]: user["password_hash"] for user in before.get("users", ())}
    passwords: Mapping[str, str] = module.params["users"]
    new = [name for name in passwords if name not in hashes or not fits(passwords[name], hashes[name])]
    try:
        names, others = Names(module.params["site_name"]), hashes.keys() - passwords.keys()
        kept = logged_in_as(others, Systemd(module.run_command), names, module.params["elsewhere"])
    except SystemdError as error:
        module.fail_json(msg=str(error))
    old = sorted(others - kept)
    hashes = {name: kept for name, kept in hashes.items() if name not in old}
    hashes |= {name: hashed(passwords[name], os.urandom(SALT_BYTES)) for name in new}
    wanted = definitions(module.params["virtual_host"], hashes)
    if module.params["members"] > 1:
        wanted |= quorum_definitions(module.params["virtual_host"], installed_version(LIBRARY))
    if wanted != before and not module.check_mode:
        change(module, wanted)
    module.exit_json(changed=wanted != before, added=new, removed=old)


if __name__ == "__main__":
    main()
