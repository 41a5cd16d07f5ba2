"""`bin/celeriac`: the words of every day, thin over the playbooks and over what is on a host.

`commands` has them; `inventories` says which inventory is meant, `playbooks` runs Ansible, `hosts` goes to a host by
SSH. `init/` writes the inventory of a project.
"""
