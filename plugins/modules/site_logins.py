#!/usr/bin/python
"""Say what the site's processes on a host log in with, for the hosts that let them in."""

from __future__ import annotations

import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import SystemdError
from ansible_collections.celeriac.site.plugins.module_utils.site_names import DEFAULT, Names
from ansible_collections.celeriac.site.plugins.module_utils.site_processes import hashes_in, logins
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Systemd

DOCUMENTATION = r"""
module: site_logins
short_description: What the site's processes on this host log in with
description:
  - A unit logs in with what it was started with until it has ended. The broker and the database let those in that have
    an older password for so long, and where they are on another host, that one has to be told.
  - No password is told; of each there is the SHA-256, or the name of the user that has it.
options:
  site_name:
    description: What the inventory calls the site.
    type: str
    default: default
author: [Celeriac]
"""

EXAMPLES = r"""
- name: It is known what the processes of this host log in with
  celeriac.site.site_logins:
"""

RETURN = r"""
ansible_facts:
  description: As C(site_logins) the C(users) whose names say of which password they are, and C(hashes) of Redis'.
  returned: always
  type: dict
"""

USER = re.compile(rb"\b[a-z][a-z0-9_]*_[0-9a-f]{8}\b")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"site_name": {"type": "str", "default": DEFAULT}}, supports_check_mode=True)
    try:
        contents = logins(Systemd(module.run_command), Names(module.params["site_name"]))
    except SystemdError as error:
        module.fail_json(msg=str(error))
    users = {user.decode() for content in contents for user in USER.findall(content)}
    hashes = {found for content in contents for found in hashes_in(content)}
    module.exit_json(changed=False, ansible_facts={"site_logins": {"users": sorted(users), "hashes": sorted(hashes)}})


if __name__ == "__main__":
    main()
