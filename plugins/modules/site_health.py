#!/usr/bin/python
"""Ask a deployed site, from the outside of its processes, whether it works."""

from __future__ import annotations

from collections.abc import Callable

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.site_checks import Checks, Deadline, Nginx
from ansible.module_utils.site_errors import UnhealthyError
from ansible.module_utils.site_options import Site, site_spec
from ansible.module_utils.systemd import Systemd

DOCUMENTATION = r"""
module: site_health
short_description: The site works
description:
  - Goes the way that people go, through nginx and with the real log-ins. It waits up to O(site.timeout)
    for things that take a moment after a start.
  - Changes nothing, but for the result of one C(celeriac.ping) task.
options:
  checks:
    description: What to ask for.
    type: list
    elements: str
    choices: [web, beat, monitor]
    required: true
  address:
    description: Where nginx is.
    type: str
    default: 127.0.0.1
  ca_file:
    description: Certificates to trust beside the host's.
    type: path
  release:
    description: The release that should serve.
    type: str
    required: true
extends_documentation_fragment: [site]
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The site works
  site_health:
    checks: [web]
    release: 0123456789ab
    site: "{{ site_on_host }}"
"""

RETURN = r"""
report:
  description: What was asked and what the answer was.
  returned: always
  type: dict
"""


def checks_of(kind: str, checks: Checks) -> list[Callable[[], str]]:
    """Return the checks for a kind of host."""
    return {
        "web": [checks.page, checks.migrations, checks.worker],
        "beat": [checks.beat],
        "monitor": [checks.flower, checks.flower_closed],
    }[kind]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "checks": {
                "type": "list",
                "elements": "str",
                "choices": ["web", "beat", "monitor"],
                "required": True,
            },
            "address": {"type": "str", "default": "127.0.0.1"},
            "ca_file": {"type": "path"},
            "release": {"type": "str", "required": True},
            **site_spec(),
        },
        supports_check_mode=True,
    )
    site = Site.from_params(module.params)
    nginx = Nginx(site.domain, module.params["address"], module.params["ca_file"])
    checks = Checks(Systemd(module.run_command), nginx, nginx, module.params["release"], site)
    deadline = Deadline(site.timeout)
    report: dict[str, str] = {}
    failed: list[str] = []
    for check in (check for kind in module.params["checks"] for check in checks_of(kind, checks)):
        try:
            report[check.__name__] = deadline.eventually(check)
        except UnhealthyError as error:
            failed.append(str(error))
    if failed:
        module.fail_json(msg="The site is not well.\n" + "\n".join(f"- {line}" for line in failed), report=report)
    module.exit_json(changed=False, report=report)


if __name__ == "__main__":
    main()
