"""Run as a folder, from anywhere: the repository is where `cli` is found, and no PYTHONPATH reaches what it starts."""

import sys
from importlib import import_module
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)
import_module("cli.commands").main()
