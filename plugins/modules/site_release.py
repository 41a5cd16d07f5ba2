#!/usr/bin/python
"""Make a release on a host, and let it serve."""

from __future__ import annotations

import platform

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils.site_build import CHECKED
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import SiteError
from ansible_collections.celeriac.site.plugins.module_utils.site_options import (
    Order,
    Shipment,
    Site,
    order_spec,
    part_spec,
)
from ansible_collections.celeriac.site.plugins.module_utils.site_transaction import Transaction

DOCUMENTATION = r"""
module: site_release
short_description: A release is built, checked, and serves
description:
  - One round trip does a whole release; the steps are at the top of C(module_utils/site_transaction.py).
    A failure leaves, or brings back, what served before.
  - The action plugin of the same name packs the source and passes O(archive) only when the host
    does not have the release.
  - Everything that runs code of the project before it serves runs as O(site.owner), in a transient unit at
    low priority.
options:
  release:
    description: Name of the release, made from the contents of the source.
    type: str
    required: true
  archive:
    description:
      - A tar file with the folders C(app) and C(runtime), C(requirements.txt), and in C(wheels) those of O(wheels) that
        the host does not have. A release that is built needs none.
    type: path
  until:
    description:
      - How far it goes. C(look) says what is to do, and does nothing; C(build) ends where the release is built, so that
        hosts which take it in turn need not build in turn; empty for all of it.
    type: str
    choices: [look, build, ""]
    default: ""
  index_environment_file:
    description: The environment that tells uv of other indexes than PyPI; only root may read it.
    type: path
    required: true
  uv_requirements:
    description: Pinned and hashed requirement lines for uv.
    type: str
    required: true
  build_commands:
    description: Commands that build a part of the release, each a list of words.
    type: list
    elements: list
    required: true
  wheels:
    description: Names of the files that the packages and uv are installed from; without any the host asks an index.
    type: list
    elements: str
    required: true
  check:
    description: When C(manage.py check --deploy) looks at the release.
    type: str
    choices: [before_migrate, after_migrate, never]
    required: true
  origin:
    description: What to note about where the release came from, such as a commit.
    type: dict
    required: true
  rehearsal_database:
    description: A database that may be emptied, in which migrations are tried first; empty for none.
    type: str
    required: true
  way_back:
    description:
      - Whether migrations that cannot be taken back are refused where the repository of the backups does not have the
        database from before them.
    type: bool
    required: true
  fault:
    description:
      - Fault injection. The transaction fails after this step; with C(:kill) or C(:stop) behind it, its
        process is killed there, or stopped.
    type: str
    required: true
extends_documentation_fragment: [celeriac.site.site, celeriac.site.site.transaction]
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The release serves
  celeriac.site.site_release:
    project: "{{ site_project }}"
    kept: /home/me/inventory/site.lock.txt
    runtime: /home/me/celeriac/runtime
    index_environment_file: /etc/site/index.environment
    uv_requirements: "{{ lookup('ansible.builtin.file', 'uv.txt') }}"
    build_commands: [[npm, ci], [npm, run, build]]
    wheelhouse: ""
    check: before_migrate
    rehearsal_database: site_rehearsal
    way_back: true
    maintenance: {}
    site: "{{ site_on_host }}"
    host: www.example.org
    hooks: { before_switch: [python manage.py check_data] }
    hook_timeout_seconds: 300
    fault: ""
"""

RETURN = r"""
release:
  description: Name of the release.
  returned: always
  type: str
kind:
  description: What of the host decides which wheels it can install.
  returned: when something is to do
  type: dict
built:
  description: Whether nothing is to be built.
  returned: when something is to do
  type: bool
wheels:
  description: The digests of the wheels that the host has, by their names.
  returned: when something is to do
  type: dict
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
            "archive": {"type": "path"},
            "until": {"type": "str", "choices": ["look", "build", ""], "default": ""},
            "index_environment_file": {"type": "path", "required": True},
            "uv_requirements": {"type": "str", "required": True},
            "build_commands": {"type": "list", "elements": "list", "required": True},
            "wheels": {"type": "list", "elements": "str", "required": True},
            "check": {"type": "str", "choices": [*CHECKED], "required": True},
            "rehearsal_database": {"type": "str", "required": True},
            "way_back": {"type": "bool", "required": True},
            "origin": {"type": "dict", "required": True},
            "fault": {"type": "str", "required": True},
            **order_spec(),
            **part_spec(),
        },
        supports_check_mode=True,
    )
    until = module.params["until"]
    site = Site.from_params(module.params)
    order = Order.from_params("build" if until == "build" else "deploy", module.params)
    transaction = Transaction(module.run_command, site, order, Shipment.from_params(module.params))
    release = order.release
    facts = {"site_release_id": release}
    if order.part != "undo" and transaction.is_settled():
        module.exit_json(changed=False, release=release, ansible_facts=facts)
    if module.check_mode or until == "look":
        here = transaction.releases
        kind = {
            "python": here.python_version.rpartition(" ")[2],
            "libc": platform.libc_ver()[1],
            "architecture": platform.machine(),
        }
        told = {"kind": kind, "wheels": here.digests(), "built": transaction.is_built()}
        module.exit_json(changed=True, release=release, ansible_facts=facts, **told)
    try:
        if order.part == "undo":
            said = transaction.take_back(module.params["why"])
            module.exit_json(changed=bool(said), release=transaction.release, msg=said)
        transaction.run()
    except SiteError as error:
        module.fail_json(msg=str(error))
    finally:
        for remark in transaction.remarks:
            module.warn(remark)
    done = {"seconds": transaction.seconds, "hooks": transaction.hooks}
    module.exit_json(changed=True, release=release, ansible_facts=facts, **done)


if __name__ == "__main__":
    main()
