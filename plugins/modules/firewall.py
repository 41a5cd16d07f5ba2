#!/usr/bin/python
"""Let a host have a firewall that never cuts off who brings it."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import FirewallError, SiteError
from ansible_collections.celeriac.site.plugins.module_utils.site_firewall import RULES, Firewall

DOCUMENTATION = r"""
module: firewall
short_description: A host has a firewall that lets in what is named, and Ansible
description:
  - Loads a table of nftables in one step, and keeps it for each boot. Other tables are left alone.
  - A changed one is taken back by a timer of the host, unless a new connection of Ansible gets in before. The action
    plugin of the same name opens that, and fails where it does not get in.
options:
  state:
    description: C(confirmed) is what the action plugin asks for over the new connection.
    type: str
    choices: [present, confirmed, absent]
    default: present
  ruleset:
    description: The table, as nft(8) reads it. C($ssh_ports) is where the host knows that SSH comes in.
    type: str
    default: ""
  unit:
    description: The text of the systemd unit that loads it at boot.
    type: str
    default: ""
  confirm_seconds:
    description: How long a changed one waits for the new connection.
    type: int
    default: 30
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The host lets in what is named, and Ansible
  celeriac.site.firewall:
    ruleset: "{{ lookup('ansible.builtin.template', 'firewall.nft.j2') }}"
    unit: "{{ lookup('ansible.builtin.template', 'celeriac-firewall.service.j2') }}"
"""

RETURN = r"""
armed:
  description: Whether a changed ruleset waits to be confirmed.
  returned: always
  type: bool
taken_back:
  description: Whether what was to be confirmed is not loaded any more.
  returned: failure
  type: bool
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "confirmed", "absent"], "default": "present"},
            "ruleset": {"type": "str", "default": ""},
            "unit": {"type": "str", "default": ""},
            "confirm_seconds": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    wanted: dict[str, Any] = module.params
    firewall = Firewall(module.run_command)
    try:
        if wanted["state"] == "absent":
            module.exit_json(changed=firewall.remove(check=module.check_mode), armed=False)
        if wanted["state"] == "confirmed":
            firewall.confirm(wanted["unit"])
            module.exit_json(changed=True, armed=False)
        change = firewall.change(wanted["ruleset"], wanted["unit"], wanted["confirm_seconds"], check=module.check_mode)
    except FirewallError as error:
        module.fail_json(msg=str(error), taken_back=wanted["state"] == "confirmed")
    except SiteError as error:
        module.fail_json(msg=str(error))
    names = {"before_header": str(RULES), "after_header": str(RULES)}
    module.exit_json(
        changed=change.changed, armed=change.armed, diff={**names, "before": change.before, "after": change.after}
    )


if __name__ == "__main__":
    main()
