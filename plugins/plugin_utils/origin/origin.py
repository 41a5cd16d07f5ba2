"""Where a project comes from, as the inventory says it. It is read here, and not fetched."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible_collections.celeriac.site.plugins.module_utils.site_secrets import without_passwords

from ..resolve.requirements import Line

FOLDER, ARCHIVE, PACKAGE, REPOSITORY = "folder", "archive", "package", "repository"
# The version of a package that is what its authors have built, in place of its source distribution.
WHEEL = "wheel"
# How the name of an archive may end.
ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")

_REPOSITORY = re.compile(r"(https|ssh|file)://.|[\w.-]+@[\w.-]+:.")
_UNSAFE = re.compile(r"(http|git|ftp)://")
# A branch, a tag or a commit, none of which can be taken for an option (git-check-ref-format(1)).
_VERSION = re.compile(r"(?![-/.])(?!.*(\.\.|//|@\{))[^\s~^:?*\[\\\x00-\x1f\x7f]*(?<![/.])")


@dataclass(frozen=True)
class Origin:
    """Where a project comes from.

    Attributes:
        kind: FOLDER, ARCHIVE, PACKAGE or REPOSITORY.
        text: what the inventory names, without the password in an address.
        version: the branch, tag or commit of a repository, empty for its own choice; WHEEL for that of a package.
        beside: the folder of the inventory.
        login: `name:password` of the address of a repository.
    """

    kind: str
    text: str
    version: str = ""
    beside: Path = Path()
    login: str = field(default="", repr=False)

    @classmethod
    def from_fact(cls, fact: Mapping[str, Any]) -> Origin:
        """Return what `site_project` of the derived facts says."""
        text = str(fact["source"] or "")
        kind = _kind_of(text)
        address = urlsplit(text) if kind == REPOSITORY and text.startswith("https:") else None
        login = address.netloc.rpartition("@")[0] if address else ""
        return cls(
            kind=kind,
            text=text.replace(f"{login}@", "", 1) if login else text,
            version=str(fact["source_version"] or ""),
            beside=Path(str(fact["beside"])),
            login=login,
        )

    @property
    def path(self) -> Path:
        """Return the folder or the archive."""
        return self.beside / self.text if self.kind == ARCHIVE else Path(self.text)

    @property
    def package(self) -> Line:
        """Return the package and its version."""
        return Line(self.text)

    @property
    def name(self) -> str:
        """Return what people call it, and what it is called beside the inventory."""
        return f"{self.text} {self.version}".strip()

    @property
    def authorization(self) -> str:
        """Return the header that opens it, empty where it needs none."""
        return basic(self.login)


def basic(login: str) -> str:
    """Return the header for a log-in as an address has it, empty for none."""
    return f"Basic {base64.b64encode(unquote(login).encode()).decode()}" if login else ""


def is_read_as_inventory(path: str) -> bool:
    """Say whether Ansible takes what is there for a part of the inventory: all but what has a dot first."""
    return not Path(path).is_absolute() and not os.path.normpath(path).startswith(".")


def _kind_of(text: str) -> str:
    if _REPOSITORY.match(text):
        return REPOSITORY
    if text.endswith(ARCHIVES):
        return ARCHIVE
    return PACKAGE if Line(text).version else FOLDER


def fault_of(origin: Origin) -> tuple[str, str, str]:
    """Return what is wrong with the inventory's words: a sentence, the choice, a right example; empty for none."""
    shown, example = without_passwords(origin.text), "site_source: /home/me/mysite        (on this computer)"
    if _UNSAFE.match(origin.text):
        fault = f"`site_source` is {shown}: on its way anybody could make another project of it."
        return (
            fault,
            "site_source",
            "site_source: https://git.mysite.org/me/site.git        (or git@git.mysite.org:me/site.git)",
        )
    if origin.kind == FOLDER and not origin.path.is_absolute() and (asked := origin.package.requirement):
        fault = f"`site_source` is `{shown}`: a package has its one version with it, and a folder is an absolute path."
        return fault, "site_source", f"site_source: {asked.name}==1.2        (or /home/me/mysite, on this computer)"
    if origin.kind == FOLDER and not origin.path.is_absolute():
        return f"`site_source` is `{shown}`; it must be an absolute path.", "site_source", example
    if origin.kind == ARCHIVE and is_read_as_inventory(origin.text):
        fault = f"`site_source` is `{shown}`, which Ansible would read as a part of the inventory."
        return (
            fault,
            "site_source",
            f"site_source: .files/{shown}        (what has a dot first it leaves alone; or an absolute path)",
        )
    if origin.kind == PACKAGE and origin.version not in ("", WHEEL):
        fault = f"`site_source_version` is `{origin.version}`, and `site_source` is {shown}, which has its version."
        return fault, "site_source_version", f"site_source_version: {WHEEL}        (what its authors have built)"
    if origin.version and origin.kind not in (REPOSITORY, PACKAGE):
        fault = f"`site_source_version` is `{origin.version}`, and `site_source` is {shown}, which is no repository."
        return (
            fault,
            "site_source_version",
            "site_source: https://git.mysite.org/me/site.git\nsite_source_version: v1.2",
        )
    if not _VERSION.fullmatch(origin.version):
        fault = f"`site_source_version` is `{origin.version}`, which is no name of a branch, a tag or a commit."
        return fault, "site_source_version", "site_source_version: v1.2"
    return "", "", ""
