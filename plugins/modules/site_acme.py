#!/usr/bin/python
"""Let the host ask an authority for the certificate of the site, where one is due."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_acme import unit_of, why_not_renewed
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import SystemdError
from ansible_collections.celeriac.site.plugins.module_utils.site_names import DEFAULT, Names
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Systemd

DOCUMENTATION = r"""
module: site_acme
short_description: The certificate of the site is asked for where one is due
description:
  - Runs the unit that the timer runs, and waits for it.
  - An authority that gives no certificate is a warning and no failure. The site serves with what it has, and the timer
    tries again.
options:
  site_name:
    description: What the inventory calls the site.
    type: str
    default: default
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The certificate is asked for where one is due
  celeriac.site.site_acme:
"""

RETURN = r"""
why:
  description: Why there is no new certificate; empty where all is well.
  returned: always
  type: str
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"site_name": {"type": "str", "default": DEFAULT}}, supports_check_mode=True)
    if module.check_mode:
        module.exit_json(changed=False, why="")
    names = Names(module.params["site_name"])
    before, why = names.pair.read_bytes(), ""
    systemd = Systemd(module.run_command)
    try:
        systemd.call("start", unit_of(names))
    except SystemdError as error:
        why = why_not_renewed(systemd, names) or str(error)
        module.warn(
            f"{why} The site serves with the certificate that it has, and the host tries again within two hours."
        )
    module.exit_json(changed=names.pair.read_bytes() != before, why=why)


if __name__ == "__main__":
    main()
