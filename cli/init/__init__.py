"""`celeriac init`: from a project to an inventory that passes preflight.

Read in this order: `project` (what its files say), `trial` (its packages in an environment that is thrown away, in
which `imported` loads its settings), `choices` (what of that becomes a choice, and why), `writing` (the files), `work`
(all, once), `command`.
"""
