"""A site on three hosts, made once: what a lost host costs, and a release that is bad on one.

`CELERIAC_DEBIAN` chooses their Debian.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stack.several import Several
from stack.spread import deployed

pytest_plugins = ["stack.upgrading"]


@pytest.fixture(scope="session")
def suite() -> str:
    """The name of the suite."""
    return "cluster"


@pytest.fixture(scope="session")
def site(folder: Path) -> Iterator[Several]:
    """The deployed site, with the first release and a schedule of one second."""
    with deployed(Several, folder) as site:
        yield site
