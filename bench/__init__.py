"""The measures of `bin/bench`."""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
# The load and the releases are those of the tests, found where pytest finds them (pyproject.toml).
sys.path += [str(_ROOT / "collections"), str(_ROOT / "molecule/shared")]
