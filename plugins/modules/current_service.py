#!/usr/bin/python
"""Keep one of Debian's services running on the configuration that is on disk."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import SystemdError
from ansible_collections.celeriac.site.plugins.module_utils.systemd import Systemd, newest_change

DOCUMENTATION = r"""
module: current_service
short_description: A service is enabled, running, and has read the files that configure it
description:
  - Starts and enables a systemd service, and restarts (or reloads) it when one of its files is
    younger than the running process.
  - Unlike a handler this does not depend on the run that changed the file being the run that gets
    to the end; an interrupted
    run is mended by the next one.
options:
  name:
    description: The unit, with or without C(.service).
    type: str
    required: true
  files:
    description: Files that the service reads. A missing one does not count.
    type: list
    elements: path
    default: []
  reload:
    description:
      - Reload instead of restart. Only for a service whose reload reads all of these files again.
    type: bool
    default: false
  restart_files:
    description: Files of a service that is reloaded which only a new process reads, such as its sandbox.
    type: list
    elements: path
    default: []
  before_restart:
    description:
      - A command that must succeed before a running service is restarted, as the words that it is made of.
    type: list
    elements: str
    default: []
  enabled:
    description: Whether it starts at boot. Leave it out for a unit that another one pulls in.
    type: bool
author: [Celeriac]
"""

EXAMPLES = r"""
- name: Redis runs with its configuration
  celeriac.site.current_service:
    name: redis-server
    files: [/etc/redis/redis.conf]
"""

RETURN = r"""
action:
  description: What was done to the running service, one of none, start, restart, reload.
  returned: always
  type: str
"""


def wanted_action(systemd: Systemd, unit: str, files: list[str], restart_files: list[str], *, reload: bool) -> str:
    """Return what brings the service up to date: none, start, restart or reload."""
    started = systemd.started_at(unit, reloads=reload)
    if started is None:
        return "start"
    if restart_files and newest_change(restart_files) > (systemd.started_at(unit, reloads=False) or started):
        return "restart"
    if newest_change(files) > started:
        return "reload" if reload else "restart"
    return "none"


def allow(module: AnsibleModule, command: list[str]) -> None:
    """Fail the module where a command does, that says whether the service may be restarted."""
    code, output, error = module.run_command(command, cwd="/")
    if code != 0:
        module.fail_json(
            msg=f"{module.params['name']} was not restarted: `{' '.join(command)}` says {(error or output).strip()}"
        )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "path", "default": []},
            "reload": {"type": "bool", "default": False},
            "restart_files": {"type": "list", "elements": "path", "default": []},
            "before_restart": {"type": "list", "elements": "str", "default": []},
            "enabled": {"type": "bool"},
        },
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    systemd = Systemd(module.run_command)
    unit = parameters["name"]
    try:
        reload_units = systemd.needs_daemon_reload(unit)
        enable = parameters["enabled"] is not None and (
            (systemd.properties(unit, "UnitFileState")["UnitFileState"] == "enabled") != parameters["enabled"]
        )
        files = parameters["files"], parameters["restart_files"]
        action = wanted_action(systemd, unit, *files, reload=parameters["reload"])
        if not module.check_mode:
            # Of a unit's first drop-in systemd 252 does not say that there is something to be read.
            if reload_units or action in {"start", "restart"}:
                systemd.call("daemon-reload")
            if enable:
                systemd.call("enable" if parameters["enabled"] else "disable", unit)
            if action == "restart" and parameters["before_restart"]:
                allow(module, parameters["before_restart"])
            if action != "none":
                systemd.start(unit, verb=action)
    except SystemdError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=reload_units or enable or action != "none", action=action)


if __name__ == "__main__":
    main()
