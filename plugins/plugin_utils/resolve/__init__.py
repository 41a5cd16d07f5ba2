"""Whatever a project has becomes one file of exact versions with hashes, on the computer that runs Ansible.

Read in this order: `requirements` (the form that hosts know), `errors`, `projects` (what a project has), `additions`
(what it lacks), `uv` (the program that resolves), `kept` (the file beside the inventory), `resolve` (all of it, once),
`wheels` (the files of these versions, for hosts that ask no index).
"""
