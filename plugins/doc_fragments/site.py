"""What the documentation of several modules shares; `module_utils/site_options.py` has the types."""

from __future__ import annotations


class ModuleDocFragment:
    """`extends_documentation_fragment: [site]`, with `site.transaction` beside it where a module has a transaction."""

    DOCUMENTATION = r"""
options:
  site:
    description: What has to be known about the site on this host, C(site_on_host) in the derived facts.
    type: dict
    required: true
    suboptions:
      name:
        description: What the inventory calls it.
        type: str
        required: true
      root:
        description: The folder of all releases.
        type: path
        required: true
      owner:
        description: The account that owns the releases, builds them and migrates the database.
        type: str
        required: true
      group:
        description: The group of the accounts that run the processes.
        type: str
        required: true
      code:
        description: Where Python finds the project, below the folder of a release.
        type: str
        required: true
      python:
        description: The interpreter that runs it.
        type: path
        required: true
      environment_files:
        description: The environment of the steps of a release.
        type: list
        elements: path
        required: true
      processes:
        description: The processes that the host runs, by name.
        type: list
        elements: str
        required: true
      socket:
        description: Where the web processes accept.
        type: path
        required: true
      monitor_socket:
        description: Where the monitor accepts.
        type: path
        required: true
      domain:
        description: The name of the site.
        type: str
        required: true
      health_path:
        description: The page of the project that answers 200 while the site is well.
        type: str
        required: true
      static_url:
        description: Where nginx serves the static files.
        type: str
        required: true
      token:
        description: The token of the runtime's own pages.
        type: str
        required: true
      monitor_username:
        description: Name of the log-in to the monitor.
        type: str
        required: true
      monitor_password:
        description: Password of the log-in to the monitor.
        type: str
        required: true
      beat_seconds:
        description: How old the last tick of beat may be, in seconds.
        type: int
        required: true
      beat_hosts:
        description: How many hosts have a beat. With more than one it may stand by.
        type: int
        required: true
      timeout:
        description: How long to wait for an answer to be the right one, in seconds.
        type: int
        required: true
      kept:
        description: How many releases are kept to go back to, the serving one included.
        type: int
        required: true
"""

    TRANSACTION = r"""
options:
  by:
    description: Who does it.
    type: str
    required: true
  host:
    description: What the inventory calls the host.
    type: str
    required: true
  hooks:
    description: The operator's own commands, as C(site_release_hooks) has them.
    type: dict
    required: true
  hook_timeout_seconds:
    description: How long a hook may take that does not say it.
    type: int
    required: true
  part:
    description:
      - Where several hosts take a release together, the part of it. C(begin) ends where the release serves, as a
        candidate; then C(record) lets it stay, or C(undo) brings back what served before. Empty for all of it at once.
      - In a task it is C(begin) on one host after the other, then C(end) on all of them, which is one of the others.
    type: str
    choices: ["", begin, record, undo]
    default: ""
  why:
    description: Why it is undone.
    type: str
    default: ""
  maintenance:
    description:
      - With a token, people wait and workers are paused from before the migrations until the release has passed.
    type: dict
    required: true
    suboptions:
      page:
        description: What people see, HTML; empty for ours.
        type: str
      token:
        description: Who knows it gets through.
        type: str
      retry_after_seconds:
        description: When a program may ask again.
        type: int
"""
