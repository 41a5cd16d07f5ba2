"""Why no file of exact versions can be made, in words that help."""

from __future__ import annotations

from ansible_collections.celeriac.site.plugins.module_utils.site_secrets import without_passwords


class LockError(Exception):
    """The project cannot be resolved; the message says why, without the passwords of addresses.

    Attributes:
        remedy: lines as they could stand in the inventory, or a command.
        choice: the name of the choice by which it is put right.
    """

    def __init__(self, message: str, remedy: str, choice: str = "site_lock") -> None:
        super().__init__(without_passwords(message))
        self.remedy = remedy
        self.choice = choice
