"""What `site_preflight` checks on the computer that runs Ansible, before any host is touched.

Read in this order: `problem` (what is printed), `bundle` (what may be set), `inventory` (what is
set, and where), `names` and `types` (the closed world), `rules` (what a type cannot say), `check`.
"""
