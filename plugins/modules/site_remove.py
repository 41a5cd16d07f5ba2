#!/usr/bin/python
"""Take a site off a host."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.celeriac.site.plugins.module_utils import site_cards
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import SiteError
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Site, site_spec
from ansible_collections.celeriac.site.plugins.module_utils.site_removal import Belongings, Removal, what_there_is

DOCUMENTATION = r"""
module: site_remove
short_description: A site is no longer on a host
description:
  - What it does is in C(module_utils/site_removal.py). It may be interrupted anywhere, and run again.
  - Another site of the same name is refused.
options:
  mark:
    description: Which site it is, as C(site_card) has it.
    type: str
    required: true
  inventory:
    description: The folder of the inventory.
    type: path
    required: true
  domains:
    description: Names of the site.
    type: list
    elements: str
    required: true
  groups:
    description: The inventory groups of the host.
    type: list
    elements: str
    required: true
  accounts:
    description: The accounts of the site, that of the releases first.
    type: list
    elements: str
    required: true
  databases:
    description: Its databases.
    type: list
    elements: str
    required: true
  virtual_host:
    description: Its virtual host in RabbitMQ.
    type: str
    required: true
  redis:
    description: The units of its Redis, that of the queues first.
    type: list
    elements: str
    required: true
  step:
    description: C(look) changes nothing, C(processes) ends them, C(rest) removes all else.
    type: str
    choices: [look, processes, rest]
    default: look
extends_documentation_fragment: [celeriac.site.site]
author: [Celeriac]
"""

EXAMPLES = r"""
- name: The processes of the site have ended
  celeriac.site.site_remove:
    site: "{{ site_on_host }}"
    mark: "{{ site_card.mark }}"
    inventory: "{{ inventory_dir }}"
    domains: [www.example.org]
    groups: [web]
    accounts: [site_deploy, site]
    databases: [site, site_rehearsal]
    virtual_host: site
    redis: [redis-server, redis-server@results]
    step: processes
"""

RETURN = r"""
whole:
  description: Whether the site is there, and no run has begun to remove it.
  returned: with C(look)
  type: bool
lines:
  description: What is left.
  returned: always
  type: list
"""


def main() -> None:
    """Run the module."""
    lists = ("domains", "groups", "accounts", "databases", "redis")
    module = AnsibleModule(
        argument_spec={
            "mark": {"type": "str", "required": True},
            "inventory": {"type": "path", "required": True},
            **{name: {"type": "list", "elements": "str", "required": True} for name in lists},
            "virtual_host": {"type": "str", "required": True},
            "step": {"type": "str", "choices": ["look", "processes", "rest"], "default": "look"},
            **site_spec(),
        },
        supports_check_mode=True,
    )
    given, site = module.params, Site.from_params(module.params)
    card = next((each for each in site_cards.cards() if each["name"] == site.name), None)
    if card and not site_cards.is_same({name: given[name] for name in ("mark", "inventory", "domains")}, card):
        module.fail_json(
            msg=f"The site called `{site.name}` on this host is another one: {card['domains'][0]}, of the inventory "
            f"{card['inventory']}. Nothing was removed."
        )
    there = list(what_there_is(site, given["accounts"]))
    if given["step"] == "look" or module.check_mode:
        whole = bool(card and site_cards.is_whole(card) and (site.root / "current").exists())
        module.exit_json(changed=given["step"] != "look" and bool(there), whole=whole, lines=there)
    groups, (queues, results) = frozenset(given["groups"]), given["redis"]
    accounts, databases = tuple(given["accounts"]), tuple(given["databases"])
    removal = Removal(
        module.run_command, site, Belongings(groups, accounts, databases, given["virtual_host"], (queues, results))
    )
    try:
        if given["step"] == "processes":
            site_cards.begin_removal(site.name)
            removal.processes()
        else:
            removal.rest()
    except SiteError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=removal.changed, lines=removal.left)


if __name__ == "__main__":
    main()
