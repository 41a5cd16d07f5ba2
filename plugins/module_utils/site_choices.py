"""What the steps of a release have as their environment, and what they had the last time.

The copies are what makes a changed choice seen where no process has it: a new password for the admin, say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.celeriac.site.plugins.module_utils.site_files import write_atomically
from ansible_collections.celeriac.site.plugins.module_utils.site_secrets import concealed

ADMIN = re.compile(rb"(?m)^CELERIAC_ADMIN_(USERNAME|PASSWORD)=(.*)$")


class Choices:
    """The files that a release is prepared with.

    Args:
        files: the environment files of the steps.
        copies: the folder for what they held the last time; only root looks into it.
    """

    def __init__(self, files: Iterable[Path], copies: Path) -> None:
        self._copies = copies
        self._copy_of = {file: copies / file.name for file in files}

    def are_new(self) -> bool:
        """Say whether no release was prepared with these."""
        return any(_content(file) != _content(copy) for file, copy in self._copy_of.items())

    def admin_password_is_new(self) -> bool:
        """Say whether the same admin had another password the last time.

        Only then it is set: what a person has changed since is not the inventory's to undo.
        """
        now, before = _admin(self._copy_of), _admin(self._copy_of.values())
        return now.get(b"USERNAME") == before.get(b"USERNAME") and now.get(b"PASSWORD") != before.get(b"PASSWORD")

    def concealed(self, text: str) -> str:
        """Return what a command printed without the secrets that it was given."""
        return concealed(text, self._copy_of)

    def note(self) -> None:
        """Remember them: a release was prepared with these."""
        self._copies.mkdir(mode=0o700, exist_ok=True)
        for file, copy in self._copy_of.items():
            write_atomically(copy, _content(file), 0o600)


def _content(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def _admin(files: Iterable[Path]) -> dict[bytes, bytes]:
    """Return what files say of the admin, as it is written there."""
    return {match[1]: match[2] for file in files for match in ADMIN.finditer(_content(file))}
