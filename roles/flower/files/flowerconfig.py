"""What Flower cannot be told by its environment: a value of that is split at its commas, and a password may have one.

https://flower.readthedocs.io/en/latest/config.html
"""

import os
import runpy
from pathlib import Path

# Flower would read the project's own, were it not for this file.
if Path("flowerconfig.py").exists():
    globals().update(runpy.run_path("flowerconfig.py"))

# Without it Flower does not start: it would let everybody in.
basic_auth = [os.environ["CELERIAC_FLOWER_LOGIN"]]
