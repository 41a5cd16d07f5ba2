"""Releases to deploy: copies of the project, each changed a little."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.celeriac.site.plugins.action.site_release import release_files, release_name
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.source import read_source

from stack.playbook import REPOSITORY

PROJECT = REPOSITORY / "site"
RUNTIME = REPOSITORY / "runtime"
PROBE = REPOSITORY / "molecule/upgrade/probe"


@dataclass(frozen=True)
class Release:
    """A folder to deploy.

    Attributes:
        source: the folder, for `site_source`.
        name: of the release that is made from it.
    """

    source: Path
    name: str

    @property
    def arguments(self) -> tuple[str, ...]:
        """Arguments of ansible-playbook that choose it."""
        return ("--extra-vars", f"site_source={self.source}")


class Workshop:
    """Makes releases in a folder; no two of them have the same name.

    Args:
        folder: where the copies are kept.
        probe: add the app `probe` to the project.
    """

    def __init__(self, folder: Path, *, probe: bool) -> None:
        self._folder = folder
        self._probe = probe
        self._made = len(list(folder.glob("release-*")))

    def make(self, *edits: Callable[[Path], None]) -> Release:
        """Return a release that differs from all others by one line of its style sheet, and by some edits.

        Args:
            edits: each is called with the folder of the copy.
        """
        self._made += 1
        source = self._folder / f"release-{self._made}"
        for name, path in read_source(PROJECT).files.items():
            copy_file(path, source / name)
        append(source / "app/static/app/site.css", f"/* {self._made} */")
        if self._probe:
            for name, path in read_source(PROBE).files.items():
                copy_file(path, source / "probe" / name)
            append(source / "TimeOut/settings.py", 'INSTALLED_APPS += ["probe"]')
            append(source / "TimeOut/urls.py", 'urlpatterns += [path("probe/", include("probe.urls"))]')
            replace(source / "probe/late.py", '"base"', f'"{source.name}"')
        for edit in edits:
            edit(source)
        files = release_files(read_source(source), read_source(RUNTIME), source / "requirements.txt")
        return Release(source, release_name(files))


def copy_file(source: Path, target: Path) -> None:
    """Copy a file into a folder that may not be there yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def append(file: Path, text: str) -> None:
    """Add lines to the end of a file."""
    with file.open("a") as stream:
        stream.write(f"\n{text}\n")


def replace(file: Path, old: str, new: str) -> None:
    """Replace a text that the file has."""
    text = file.read_text()
    assert old in text, f"{file} has no {old!r}"
    file.write_text(text.replace(old, new))
