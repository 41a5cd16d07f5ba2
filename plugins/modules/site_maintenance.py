#!/usr/bin/python
"""Bring a host into maintenance, or out of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import HeldError, SiteError
from ansible_collections.celeriac.site.plugins.module_utils.site_lock import locked
from ansible_collections.celeriac.site.plugins.module_utils.site_maintenance import (
    DOOR,
    Maintenance,
    Switch,
    in_maintenance,
    now,
)
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Site, site_spec

DOCUMENTATION = r"""
module: site_maintenance
short_description: The site is in maintenance, or is not
description:
  - In it nginx answers 503 with a page, but for who has come by a link with the token. It lasts until it is ended, also
    over a reboot and other runs.
  - A paused worker has ended what it ran; neither it nor beat starts at a boot.
options:
  state:
    description: C(on) or C(off).
    type: str
    choices: ["on", "off"]
    required: true
  processes:
    description: C(pause) for workers, beat and other commands, or C(run); empty, as they are.
    type: str
    choices: ["", "pause", "run"]
    required: true
  web:
    description: Whether nginx is on this host.
    type: bool
    required: true
  page:
    description: What people see, HTML; empty for ours.
    type: str
    required: true
  token:
    description: Who knows it gets through.
    type: str
    required: true
  retry_after_seconds:
    description: When a program may ask again.
    type: int
    required: true
  by:
    description: Who does it.
    type: str
    required: true
extends_documentation_fragment: [celeriac.site.site]
author: [Celeriac]
"""

EXAMPLES = r"""
- name: People wait, and the workers end what they run
  celeriac.site.site_maintenance:
    state: "on"
    processes: pause
    web: true
    page: ""
    token: "{{ site_maintenance_token }}"
    retry_after_seconds: 300
    by: anna
    site: "{{ site_on_host }}"
"""

RETURN = r"""
lines:
  description: What is so now, for people.
  returned: success
  type: list
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["on", "off"], "required": True},
            "processes": {"type": "str", "choices": ["", "pause", "run"], "required": True},
            "web": {"type": "bool", "required": True},
            "page": {"type": "str", "required": True},
            "token": {"type": "str", "required": True, "no_log": True},
            "retry_after_seconds": {"type": "int", "required": True},
            "by": {"type": "str", "required": True},
            **site_spec(),
        },
        supports_check_mode=True,
    )
    given, site = module.params, Site.from_params(module.params)
    before = in_maintenance(site.names)
    is_on = given["state"] == "on"
    basis = before or Maintenance(now(), given["by"], paused=False, token="")
    paused = {"pause": True, "run": False}.get(given["processes"], basis.paused)
    # What a deploy began, and left when it was killed, is an operator's from now on.
    wanted = replace(basis, paused=paused, token=given["token"], then="", why="")
    if module.check_mode:
        module.exit_json(changed=before != (wanted if is_on else None), lines=[])
    switch = Switch(module.run_command, site, web=given["web"])
    try:
        with locked(Path(site.root) / "deploy.lock", f"maintenance by {given['by']}"):
            changed = switch.on(wanted, given["page"], given["retry_after_seconds"]) if is_on else switch.off()
    except HeldError as error:
        module.fail_json(msg=f"a deploy is at work on this host: {error}")
    except SiteError as error:
        module.fail_json(msg=str(error))
    lines = ["the site serves"]
    if is_on:
        processes = "are paused" if paused else "run"
        lines = [
            f"people are answered 503; workers and beat {processes}",
            f"who knows the token gets in by https://{site.domain}{DOOR}TOKEN",
        ]
    module.exit_json(changed=changed, lines=lines)


if __name__ == "__main__":
    main()
