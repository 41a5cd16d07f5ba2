"""What is kept out of a text that people see: the secrets of an environment, and passwords in addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

# As the filter `systemd_environment` writes a variable; a value may be of several lines.
VARIABLE = re.compile(r'(?ms)^([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"$')
SECRET = re.compile(r"PASS|SECRET|TOKEN|KEY|DSN|CREDENTIAL", re.IGNORECASE)
# With a name or without: a token alone is a password, too.
PASSWORD_IN_URL = re.compile(r"(?<=://)[^\s/@]+(?=@)")
# A shorter one is in half of the words that somebody reads.
LEAST_CONCEALED = 4


def concealed(text: str, files: Iterable[Path]) -> str:
    """Return what a program printed without secrets.

    Args:
        text: what it printed.
        files: its environment. Secret is what a variable has whose name says so.
    """
    for secret in sorted(_secrets(files), key=len, reverse=True):  # one may be in another
        text = text.replace(secret, "********")
    return without_passwords(text)


def without_passwords(text: str) -> str:
    """Return a text without the passwords in its addresses."""
    return PASSWORD_IN_URL.sub("********", text)


def _secrets(files: Iterable[Path]) -> set[str]:
    contents = [file.read_bytes().decode(errors="replace") for file in files if file.exists()]
    values = {
        re.sub(r"(?s)\\(.)", r"\1", value)
        for content in contents
        for name, value in (match.groups() for match in VARIABLE.finditer(content))
        if SECRET.search(name)
    }
    return {value for value in values if len(value) >= LEAST_CONCEALED}
