"""Whatever `site_source` names becomes a folder on the computer that runs Ansible; nothing in it is run there.

Read in this order: `origin` (what it names), `cache` (where folders are kept), `unpack` (an archive becomes files),
`index` (where packages come from), `repository` (git), `kept` (the file beside the inventory), `fetch` (all, once).
"""
