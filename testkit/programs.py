"""Programs of Debian that the tests start. Nothing is skipped: one that is not installed is an error."""

from __future__ import annotations

import shutil


class MissingProgramError(Exception):
    """A program is not installed; with the package that brings it."""

    def __init__(self, program: str, package: str) -> None:
        super().__init__(f"{program} is not installed: apt-get install {package}, or bin/setup --tests")


def find_program(name: str, package: str) -> str:
    """Return the path of a program.

    Args:
        name: of the program.
        package: of Debian that brings it.

    Raises:
        MissingProgramError: it is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    if found is None:
        raise MissingProgramError(name, package)
    return found
