#!/usr/bin/python
"""Let the host become what it was."""

from __future__ import annotations

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_backup import ANSWER, PROGRAM, RESTORE, restore
from ansible_collections.celeriac.site.plugins.module_utils.site_cards import neighbours
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import SiteError
from ansible_collections.celeriac.site.plugins.module_utils.site_maintenance import OfDeploy, of_restore
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Site, maintenance_spec, site_spec
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Systemd

DOCUMENTATION = r"""
module: site_restore
short_description: The site is what it was
description:
  - Runs a unit of the host, which goes on to its end when the run does not. What it does is in
    C(roles/backup/files/site_backup.py).
  - People are told to wait meanwhile. Where the release that serves is not the one of the database then, they wait on.
  - Under C(--check) it says what would be restored, and changes nothing.
options:
  to:
    description: C(latest), a time (UTC), the label of a backup, or a restore point.
    type: str
    required: true
  web:
    description: Whether nginx is on this host.
    type: bool
    required: true
  maintenance:
    description: What people are told meanwhile.
    type: dict
    required: true
    suboptions:
      page:
        description: What people see, HTML; empty for ours.
        type: str
      token:
        description: Who knows it gets through.
        type: str
      retry_after_seconds:
        description: When a program may ask again.
        type: int
  by:
    description: Who does it.
    type: str
    required: true
  others:
    description: C(too) where other sites have their databases on this host, and those may be what they were as well.
    type: str
    choices: ["", too]
    default: ""
extends_documentation_fragment: [celeriac.site.site]
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The site is what it was
  celeriac.site.site_restore:
    to: 2027-01-31 12:00
    web: true
    maintenance: "{{ site_maintenance_choices }}"
    by: anna
    site: "{{ site_on_host }}"
"""

RETURN = r"""
says:
  description: What would be restored.
  returned: under C(--check)
  type: str
restored:
  description: What was restored, a line.
  returned: when it was
  type: list
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "to": {"type": "str", "required": True},
            "web": {"type": "bool", "required": True},
            "maintenance": maintenance_spec(),
            "by": {"type": "str", "required": True},
            "others": {"type": "str", "choices": ["", "too"], "default": ""},
            **site_spec(),
        },
        supports_check_mode=True,
    )
    given, site = module.params, Site.from_params(module.params)
    if not PROGRAM.exists():
        module.fail_json(
            msg="This host has no backups: choose `backup_repository` as it was when they were made, and run site.yml."
        )
    if (others := neighbours(site.name, "database")) and given["others"] != "too":
        module.fail_json(
            msg="A restore brings back all that PostgreSQL had on this host, and other sites have databases here: "
            f"{', '.join(others)}. Nothing was changed. To let those be what they were as well: -e others=too"
        )
    wanted = {"to": given["to"], "go": not module.check_mode}
    if given["web"]:
        wanted["maintenance"] = of_restore(given["by"], given["maintenance"], site)
    systemd = Systemd(module.run_command)
    try:
        restore(systemd, wanted)
        if module.check_mode:
            module.exit_json(changed=True, says=json.loads(ANSWER.read_text())["says"])
        restored = systemd.said_by(RESTORE)
        if fault := OfDeploy(module.run_command, site).hold_or_end():
            module.warn(fault)
    except SiteError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, restored=[restored])


if __name__ == "__main__":
    main()
