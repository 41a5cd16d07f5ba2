#!/usr/bin/python
"""Ask a deployed site, from the outside of its processes, whether it works."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_checks import Checks, Client, Deadline, Nginx, Socket
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import ProcessError, UnhealthyError
from ansible_collections.celeriac.site.plugins.module_utils.site_history import History
from ansible_collections.celeriac.site.plugins.module_utils.site_kinds import WEB, Kind, outside
from ansible_collections.celeriac.site.plugins.module_utils.site_maintenance import in_maintenance
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Site, site_spec
from ansible_collections.celeriac.site.plugins.module_utils.site_processes import described
from ansible_collections.celeriac.site.plugins.module_utils.site_report import of_the_tasks
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Systemd

DOCUMENTATION = r"""
module: site_health
short_description: The site works
description:
  - What is asked depends on the kinds of the processes that the host runs; the table is at the top of
    C(module_utils/site_kinds.py).
  - Goes the way that people go, through nginx and with the real log-ins. It waits up to O(site.timeout)
    for things that take a moment after a start.
  - Changes nothing: the answers to its C(celeriac.ping) tasks go by themselves.
options:
  address:
    description: Where nginx is.
    type: str
    default: 127.0.0.1
  ca_file:
    description: Certificates to trust beside the host's.
    type: path
  release:
    description: The release that should serve; empty, the one that was recorded last.
    type: str
    default: ""
extends_documentation_fragment: [celeriac.site.site]
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The site works
  celeriac.site.site_health:
    release: 0123456789ab
    site: "{{ site_on_host }}"
"""

RETURN = r"""
report:
  description: What was asked and what the answer was.
  returned: always
  type: dict
tasks:
  description: How many tasks have which guarantee, in the words of the status.
  returned: success
  type: list
"""


# What nginx does of itself.
BY_NGINX = ("monitor_closed",)


def units_of(systemd: Systemd, site: Site) -> dict[Kind, list[str]]:
    """Return the units that serve on this host, by kind."""
    units: dict[Kind, list[str]] = {}
    for process in described(systemd, site.processes, site.names):
        units.setdefault(process.kind, []).append(process.recorded())
    return units


def guarantees(checks: Checks) -> list[str]:
    """Return which guarantee how many tasks of the release have; nothing where its workers are too busy to say."""
    try:
        return of_the_tasks(checks.workers())
    except UnhealthyError:
        return []


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "default": "127.0.0.1"},
            "ca_file": {"type": "path"},
            "release": {"type": "str", "default": ""},
            **site_spec(),
        },
        supports_check_mode=True,
    )
    site, systemd = Site.from_params(module.params), Systemd(module.run_command)
    now = in_maintenance(site.names)
    if now and now.why:
        module.fail_json(msg=now.why)
    try:
        units = units_of(systemd, site)
    except ProcessError as error:
        module.fail_json(msg=str(error))
    web: Client = Socket(site.socket, site.domain)
    monitor: Client = Socket(site.monitor_socket, site.domain)
    asked = list(outside(units))
    if WEB in units:
        web = monitor = Nginx(
            site.domain, module.params["address"], module.params["ca_file"], now.cookie if now else {}
        )
    else:  # people come by other hosts, and nginx is there
        asked = [name for name in asked if name not in BY_NGINX]
    serving = History(site.root).serving()
    release = module.params["release"] or (serving.release if serving else "")
    if not release:
        module.fail_json(msg="No release was ever deployed to this host.")
    checks = Checks(systemd, web, monitor, release, site, units)
    deadline = Deadline(site.timeout)
    report: dict[str, str] = {}
    failed: list[str] = []
    for name in asked:
        try:
            report[name] = deadline.eventually(getattr(checks, name))
        except UnhealthyError as error:
            failed.append(str(error))
    if failed:
        module.fail_json(msg="The site is not well.\n" + "\n".join(f"- {line}" for line in failed), report=report)
    if now:
        module.warn(
            f"The site is in maintenance since {now.since}, by {now.by}: people are answered 503. "
            "`playbooks/maintenance.yml -e state=off` ends that."
        )
    module.exit_json(changed=False, report=report, tasks=guarantees(checks) if WEB in units else [])


if __name__ == "__main__":
    main()
