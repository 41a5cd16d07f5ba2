#!/usr/bin/python
"""Let the host become what it was."""

from __future__ import annotations

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_backup import ANSWER, PROGRAM, REQUEST, RESTORE, start
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import BackupError
from ansible_collections.celeriac.site.plugins.module_utils.site_files import write_atomically
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Systemd

DOCUMENTATION = r"""
module: site_restore
short_description: The site is what it was
description:
  - Runs a unit of the host, which goes on to its end when the run does not. What it does is in
    C(roles/backup/files/site_backup.py).
  - Under C(--check) it says what would be restored, and changes nothing.
options:
  to:
    description: C(latest), a time (UTC), or the label of a backup.
    type: str
    required: true
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The site is what it was
  celeriac.site.site_restore:
    to: 2027-01-31 12:00
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
    module = AnsibleModule(argument_spec={"to": {"type": "str", "required": True}}, supports_check_mode=True)
    if not PROGRAM.exists():
        module.fail_json(
            msg="This host has no backups: choose `backup_repository` as it was when they were made, and run site.yml."
        )
    request = {"to": module.params["to"], "go": not module.check_mode}
    write_atomically(REQUEST, json.dumps(request).encode(), 0o600)
    systemd = Systemd(module.run_command)
    try:
        start(systemd, RESTORE)
    except BackupError as error:
        module.fail_json(msg=str(error))
    if module.check_mode:
        module.exit_json(changed=True, says=json.loads(ANSWER.read_text())["says"])
    module.exit_json(changed=True, restored=[systemd.said_by(RESTORE)])


if __name__ == "__main__":
    main()
