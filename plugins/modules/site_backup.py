#!/usr/bin/python
"""Let the host back the site up, now or where a choice asks for it."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_backup import (
    DATABASE,
    FILES,
    LABEL,
    PROGRAM,
    STATE,
    last_of,
    start,
)
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import BackupError
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Systemd, newest_change

DOCUMENTATION = r"""
module: site_backup
short_description: The site is backed up
description:
  - Runs the units that the timers run, and waits for them; they say what came of it.
  - With I(newer_than) only those that have not gone well since these files were changed. A new choice is tried at once,
    and one that does not do is a red run.
  - A repository that has the backups of another database is a warning then. So it is on a host that was made anew,
    until it was restored.
options:
  label:
    description: A name for this backup, by which it can be restored.
    type: str
    default: ""
  newer_than:
    description: Files; a backup that is younger than they will do.
    type: list
    elements: path
    default: []
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The site is backed up
  celeriac.site.site_backup:
    label: before-the-move
"""

RETURN = r"""
backups:
  description: What came of it, a line each.
  returned: always
  type: list
"""


def due(unit: str, files: list[str]) -> bool:
    """Say whether a unit has not gone well since some files were changed; always where there are none."""
    if not files or last_of(unit) is None:
        return True
    return (STATE / unit / "last.json").stat().st_mtime < newest_change(files).timestamp()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "label": {"type": "str", "default": ""},
            "newer_than": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    label, files = module.params["label"], module.params["newer_than"]
    if not PROGRAM.exists():
        if module.check_mode:
            module.exit_json(changed=True, backups=[])
        module.fail_json(msg="This host makes no backups: choose `backup_repository: local` or `s3`, and run site.yml.")
    units = [unit for unit in (DATABASE, FILES) if due(unit, files)]
    if module.check_mode:
        module.exit_json(changed=bool(units), backups=[])
    systemd, said = Systemd(module.run_command), []
    Path(LABEL).write_text(label)
    try:
        for unit in units:
            start(systemd, unit)
            said.append(systemd.said_by(unit))
    except BackupError as error:
        if not (error.whose and files):
            module.fail_json(msg=str(error))
        module.warn(str(error))
    finally:
        LABEL.unlink()
    module.exit_json(changed=bool(said), backups=said)


if __name__ == "__main__":
    main()
