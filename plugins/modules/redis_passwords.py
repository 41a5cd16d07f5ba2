#!/usr/bin/python
"""Say what the site's processes on a host log in to Redis with."""

from __future__ import annotations

import hashlib
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import SystemdError
from ansible_collections.celeriac.site.plugins.module_utils.site_names import DEFAULT, Names
from ansible_collections.celeriac.site.plugins.module_utils.site_processes import environments
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

# As the filter `systemd_environment` writes it.
PASSWORD = re.compile(rb'(?m)^REDIS_PASSWORD="(.*)"$')
ESCAPED = re.compile(rb"\\(.)")


def hashes_in(environment: bytes) -> set[str]:
    """Return the SHA-256 of the passwords in an environment file."""
    return {hashlib.sha256(ESCAPED.sub(rb"\1", value)).hexdigest() for value in PASSWORD.findall(environment)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"site_name": {"type": "str", "default": DEFAULT}}, supports_check_mode=True)
    try:
        files = environments(Systemd(module.run_command), Names(module.params["site_name"]))
    except SystemdError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, hashes=sorted({found for file in files for found in hashes_in(file)}))


if __name__ == "__main__":
    main()
