#!/usr/bin/python
"""Let a release that passed before serve again."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import SiteError
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Order, Site, order_spec, part_spec
from ansible_collections.celeriac.site.plugins.module_utils.site_transaction import Transaction

DOCUMENTATION = r"""
module: site_rollback
short_description: A release that passed before serves again
description:
  - Switches by the same checked transaction as a deploy. Nothing is built.
  - Refuses a release that never passed, and one that does not know a migration of the database, unless that may be
    taken back, or the database from before it comes back; it says what each of these costs.
options:
  release:
    description: Name of the release; empty for the one before.
    type: str
    required: true
  migrations:
    description: C(reverse), where migrations that the release does not know are taken back; empty, where they are not.
    type: str
    choices: ["", "reverse"]
    required: true
  accept_loss:
    description: Whether the database may become the one from before such migrations, from the backups.
    type: bool
    required: true
extends_documentation_fragment: [celeriac.site.site, celeriac.site.site.transaction]
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The release before serves
  celeriac.site.site_rollback:
    release: ""
    migrations: ""
    accept_loss: false
    maintenance: {}
    by: anna
    site: "{{ site_on_host }}"
    host: www.example.org
    hooks: {}
    hook_timeout_seconds: 300
"""

RETURN = r"""
release:
  description: Name of the release that serves now.
  returned: always
  type: str
seconds:
  description: How long each step took.
  returned: when something was done
  type: dict
hooks:
  description: The hooks that were run, a line each.
  returned: when something was done
  type: list
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "migrations": {"type": "str", "choices": ["", "reverse"], "required": True},
            "accept_loss": {"type": "bool", "required": True},
            **order_spec(),
            **part_spec(),
        },
        supports_check_mode=True,
    )
    site, order = Site.from_params(module.params), Order.from_params("rollback", module.params)
    transaction = Transaction(module.run_command, site, order)
    if module.check_mode:
        module.exit_json(changed=True, release=transaction.release)
    try:
        if order.part == "undo":
            said = transaction.take_back(module.params["why"])
            module.exit_json(changed=bool(said), release=transaction.release, msg=said)
        transaction.run()
    except SiteError as error:
        module.fail_json(msg=str(error))
    release = transaction.release
    facts = {"site_release_id": release}
    done = {"seconds": transaction.seconds, "hooks": transaction.hooks}
    module.exit_json(changed=True, release=release, ansible_facts=facts, **done)


if __name__ == "__main__":
    main()
