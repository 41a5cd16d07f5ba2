"""What hangs, is killed or loses its power, while work goes on; on a machine that `stack.upgrading` makes."""

import pytest
from stack.upgrading import (
    figures,
    folder,
    full,
    light_load,
    pytest_report_header,
    pytest_terminal_summary,
    serving,
    site,
)

__all__ = [
    "figures",
    "folder",
    "full",
    "light_load",
    "pytest_report_header",
    "pytest_terminal_summary",
    "serving",
    "site",
    "suite",
]


@pytest.fixture(scope="session")
def suite() -> str:
    """The name of the suite, and of its machine."""
    return "faults"
