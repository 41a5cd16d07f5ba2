"""The systems on which the bundle is tested: the one place that says which."""

from __future__ import annotations

# By what os-release(5) calls `VERSION_ID`, with Debian's word for it.
TESTED = {"12": "bookworm", "13": "trixie"}
IN_WORDS = "Debian " + " and ".join(f"{version} ({name})" for version, name in TESTED.items())
NEWEST = f"a fresh machine with Debian {max(TESTED, key=int)}"
