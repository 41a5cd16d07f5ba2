#!/usr/bin/python
"""Write down on a host which run is at work there."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils import site_cards
from ansible_collections.celeriac.site.plugins.module_utils.site_claim import NOTE, claim
from ansible_collections.celeriac.site.plugins.module_utils.site_firewall import Firewall

DOCUMENTATION = r"""
module: site_run
short_description: No other run is at work on a host
description:
  - Holds from the first call in a run until the run ends, however it ends.
  - The action plugin of the same name says which run it is, and fails where another one is at work.
options:
  run:
    description: The run, for people and for those that ask whether it lives.
    type: dict
    required: true
  over:
    description: The note of a run that has ended.
    type: dict
  card:
    description: What the site says of itself to the others of the host; nothing where that is not to be written.
    type: dict
  path:
    description: Where the note is kept.
    type: path
    default: /run/site-run.json
author: [Celeriac]
"""

EXAMPLES = r"""
- name: No other run is at work on this host
  celeriac.site.site_run:
"""

RETURN = r"""
held_by:
  description: The note of another run, none where this one may go on.
  returned: always
  type: dict
cards:
  description: What all sites of the host say of themselves.
  returned: always
  type: list
firewall:
  description: Whether the host has a firewall of ours.
  returned: always
  type: bool
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "run": {"type": "dict", "required": True},
            "over": {"type": "dict"},
            "card": {"type": "dict"},
            "path": {"type": "path", "default": NOTE},
        },
        supports_check_mode=True,
    )
    held_by = None
    if not module.check_mode:
        held_by = claim(Path(module.params["path"]), module.params["run"], module.params["over"])
        if held_by is None and module.params["card"]:
            site_cards.write(module.params["card"])
    module.exit_json(changed=False, held_by=held_by, cards=site_cards.cards(), firewall=Firewall.is_there())


if __name__ == "__main__":
    main()
