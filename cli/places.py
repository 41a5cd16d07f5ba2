"""Where in the checkout things are."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
INVENTORIES = REPOSITORY / "inventory"
COLLECTIONS = REPOSITORY / "collections"
PLAYBOOKS = REPOSITORY / "playbooks"
RUNTIME = REPOSITORY / "runtime"
CONFIGURATION = REPOSITORY / "ansible.cfg"
# Programs of the environment that this runs in.
PROGRAMS = Path(sys.executable).parent
