"""Which choices of a release are new, from what a host remembers."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.celeriac.site.plugins.module_utils.site_choices import Choices


class Host:
    """A host with one file of choices."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "deploy.environment"
        self.choices = Choices([self._file], folder / "prepared")

    def choose(self, name: str, password: str, level: str = "WARNING") -> None:
        """Write the file, as the role `site_host` does."""
        self._file.write_text(
            f'CELERIAC_ADMIN_PASSWORD="{password}"\nCELERIAC_ADMIN_USERNAME="{name}"\nCELERIAC_CHECK_FAIL_LEVEL="{level}"\n'
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host on which a release was prepared."""
    host = Host(tmp_path)
    host.choose("ada", "first")
    assert host.choices.are_new()
    assert not host.choices.admin_password_is_new(), "who is not known yet is made, not changed"
    host.choices.note()
    return host


def test_the_same_choices_are_not_new(host: Host) -> None:
    assert not host.choices.are_new()
    assert not host.choices.admin_password_is_new()


def test_another_password_is_new_once(host: Host) -> None:
    host.choose("ada", "second")
    assert host.choices.are_new()
    assert host.choices.admin_password_is_new()

    host.choices.note()
    assert not host.choices.are_new()
    assert not host.choices.admin_password_is_new()


def test_another_choice_leaves_the_password_alone(host: Host) -> None:
    host.choose("ada", "first", level="ERROR")
    assert host.choices.are_new()
    assert not host.choices.admin_password_is_new()


def test_a_user_who_happens_to_have_the_name_of_a_new_admin_keeps_the_password(host: Host) -> None:
    host.choose("grace", "second")
    assert not host.choices.admin_password_is_new()


def test_what_is_remembered_is_for_root_alone(host: Host, tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    assert [path.stat().st_mode & 0o77 for path in (folder, *folder.iterdir())] == [0, 0]
