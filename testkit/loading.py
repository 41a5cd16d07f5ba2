"""Programs that go to hosts, as modules: they are in no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any


def load(file: Path) -> Any:
    """Return the module that a file is, under its name without `.py`.

    Args:
        file: the program.
    """
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module
