#!/usr/bin/python
"""Ask a deployed site, from the outside of its processes, whether it works."""

from __future__ import annotations

from collections.abc import Callable

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.site_checks import Checks, Deadline, Nginx, Unhealthy, choices_spec
from ansible.module_utils.systemd import Systemd

DOCUMENTATION = r"""
module: site_health
short_description: The site works
description:
  - Goes the way that people go, through nginx and with the real log-ins. It waits up to O(timeout)
    for things that take a moment after a start.
  - Changes nothing, but for the result of one C(celeriac.ping) task.
options:
  checks:
    description: What to ask for.
    type: list
    elements: str
    choices: [web, beat, monitor]
    required: true
  domain:
    description: The name of the site.
    type: str
    required: true
  address:
    description: Where nginx is.
    type: str
    default: 127.0.0.1
  ca_file:
    description: Certificates to trust beside the host's.
    type: path
  health_path:
    description: The page of the project that answers 200 while the site is well.
    type: str
    required: true
  release:
    description: The release that should serve.
    type: str
    required: true
  token:
    description: The token of the runtime's own pages.
    type: str
    required: true
  flower_username:
    description: Name of the log-in to Flower.
    type: str
    required: true
  flower_password:
    description: Password of the log-in to Flower.
    type: str
    required: true
  beat_seconds:
    description: How old the last tick of beat may be, in seconds.
    type: int
    required: true
  timeout:
    description: How long to wait for an answer to be the right one, in seconds.
    type: int
    default: 30
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The site works
  site_health:
    checks: [web]
    domain: www.example.org
    health_path: /health/
    release: 0123456789ab
    token: "{{ site_health_token }}"
    flower_username: admin
    flower_password: "{{ site_flower_password }}"
    beat_seconds: 20
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
            "domain": {"type": "str", "required": True},
            "address": {"type": "str", "default": "127.0.0.1"},
            "ca_file": {"type": "path"},
            "release": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 30},
            **choices_spec(),
        },
        supports_check_mode=True,
    )
    nginx = Nginx(module.params["domain"], module.params["address"], module.params["ca_file"])
    checks = Checks(Systemd(module.run_command), nginx, nginx, module.params["release"], module.params)
    deadline = Deadline(module.params["timeout"])
    report: dict[str, str] = {}
    failed: list[str] = []
    for check in (check for kind in module.params["checks"] for check in checks_of(kind, checks)):
        try:
            report[check.__name__] = deadline.eventually(check)
        except Unhealthy as error:
            failed.append(str(error))
    if failed:
        module.fail_json(msg="The site is not well.\n" + "\n".join(f"- {line}" for line in failed), report=report)
    module.exit_json(changed=False, report=report)


if __name__ == "__main__":
    main()
