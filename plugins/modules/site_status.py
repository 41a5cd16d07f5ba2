#!/usr/bin/python
"""Say how the site is on a host."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import SiteError
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Site, site_spec
from ansible_collections.celeriac.site.plugins.module_utils.site_report import Report, as_text

DOCUMENTATION = r"""
module: site_status
short_description: How the site is on a host
description:
  - The release with its history, units, drains, queues, workers and disk. Changes nothing.
extends_documentation_fragment: [celeriac.site.site]
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The status of the site
  celeriac.site.site_status:
    site: "{{ site_on_host }}"
"""

RETURN = r"""
status:
  description: All of it, for machines.
  returned: always
  type: dict
lines:
  description: The same for people, a line each.
  returned: always
  type: list
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=site_spec(), supports_check_mode=True)
    try:
        status = Report(module.run_command, Site.from_params(module.params)).read()
    except SiteError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, status=status, lines=as_text(status))


if __name__ == "__main__":
    main()
