"""What hangs, is killed or loses its power, while work goes on; on a machine that `stack.upgrading` makes."""

import pytest

pytest_plugins = ["stack.upgrading"]


@pytest.fixture(scope="session")
def suite() -> str:
    """The name of the suite, and of its machine."""
    return "faults"
