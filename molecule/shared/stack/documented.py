"""What docs/collection.md tells people to write."""

from __future__ import annotations

import re

from stack.playbook import REPOSITORY


def documented() -> dict[str, str]:
    """Return the files that it shows, by their names."""
    text = (REPOSITORY / "docs/collection.md").read_text()
    return dict(re.findall(r"^`([a-z_/.]+)`[^\n]*\n\n```\w+\n(.*?)```$", text, re.MULTILINE | re.DOTALL))
