"""A site on three hosts, made once: what a lost host costs, and a release that is bad on one.

`CELERIAC_DEBIAN` chooses their Debian.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack.lab import CHOICES, MACHINE
from stack.machine import Machine
from stack.releases import Workshop
from stack.several import GROUPS, HOSTS, Several

pytest_plugins = ["stack.upgrading"]


@pytest.fixture(scope="session")
def suite() -> str:
    """The name of the suite."""
    return "cluster"


@pytest.fixture(scope="session")
def site(folder: Path) -> Iterator[Several]:
    """The deployed site, with the first release and a schedule of one second."""
    debian = os.environ.get("CELERIAC_DEBIAN", "13")
    subprocess.run([MACHINE, "up", *HOSTS, "--debian", debian], check=True)
    try:
        found = {name: json.loads(subprocess.check_output([MACHINE, "inventory", name])) for name in HOSTS}
        children: dict[str, object] = {
            group: {"hosts": {name: {} for name in names}} for group, names in GROUPS.items()
        }
        # What a page writes would be on its host alone.
        choices = {**CHOICES, "site_data_folders": [], "site_media_url": "", "site_private_folders": []}
        inventory = folder / "hosts.json"
        inventory.write_text(json.dumps({"all": {"hosts": found, "vars": choices, "children": children}}))
        machines = {name: Machine(name, inventory, folder) for name in HOSTS}
        site = Several(machines, Workshop(folder, probe=True), folder)
        (folder / "converge.txt").write_text(site.converge().output)
        yield site
    finally:
        if not os.environ.get("CELERIAC_UPGRADE_KEEP"):
            subprocess.run([MACHINE, "down", *HOSTS], check=True)
