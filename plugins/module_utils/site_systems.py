"""The systems on which the bundle is tested: the one place that says which."""

from __future__ import annotations

# By what os-release(5) calls `VERSION_ID`, with Debian's word for it.
TESTED = {"12": "bookworm", "13": "trixie"}
# And the Python that each of them has.
PYTHONS = {"12": "3.11.2", "13": "3.13.5"}
NEWEST_PYTHON = ".".join(PYTHONS[max(PYTHONS, key=int)].split(".")[:2])
IN_WORDS = "Debian " + " and ".join(f"{version} ({name})" for version, name in TESTED.items())
NEWEST = f"a fresh machine with Debian {max(TESTED, key=int)}"
