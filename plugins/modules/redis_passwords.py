#!/usr/bin/python
"""Say what the site's processes on a host log in to Redis with."""

from __future__ import annotations

import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import SystemdError
from ansible_collections.celeriac.site.plugins.module_utils.site_names import DEFAULT, Names
from ansible_collections.celeriac.site.plugins.module_utils.site_processes import environments, hashes_in
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Systemd

DOCUMENTATION = r"""
module: redis_passwords
short_description: What the site's processes log in to Redis with
description:
  - A unit has its environment for itself, and logs in with the password that is there until it has ended; on and on
    where the release that should replace it is undone. So Redis has to let in more than who has the newest.
  - Of each password the SHA-256, which is what an ACL file of Redis holds.
options:
  site_name:
    description: What the inventory calls the site.
    type: str
    default: default
  elsewhere:
    description:
      - What processes of other hosts log in with, as the C(hashes) that M(celeriac.site.site_logins) has found there,
        and whether those are C(complete). Where they are not, all hashes in O(acl) hold on.
    type: dict
    default: {}
  acl:
    description: The ACL file that there is, or will be.
    type: path
    default: /etc/redis/users.acl
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The passwords that hold are known
  celeriac.site.redis_passwords:
  register: found
"""

RETURN = r"""
hashes:
  description: The SHA-256 of each password, in hexadecimal digits.
  returned: always
  type: list
"""

# As an ACL file of Redis has them (https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/).
HASH = re.compile(r"#([0-9a-f]{64})\b")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "site_name": {"type": "str", "default": DEFAULT},
            "elsewhere": {"type": "dict", "default": {}},
            "acl": {"type": "path", "default": "/etc/redis/users.acl"},
        },
        supports_check_mode=True,
    )
    elsewhere, acl = module.params["elsewhere"], Path(module.params["acl"])
    try:
        files = environments(Systemd(module.run_command), Names(module.params["site_name"]))
    except SystemdError as error:
        module.fail_json(msg=str(error))
    hashes = {found for file in files for found in hashes_in(file)} | set(elsewhere.get("hashes", []))
    if not elsewhere.get("complete", True) and acl.exists():
        hashes |= set(HASH.findall(acl.read_text()))
    module.exit_json(changed=False, hashes=sorted(hashes))


if __name__ == "__main__":
    main()
