"""Releases come and go under load; on a machine that `stack.upgrading` makes."""

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
    return "upgrade"
