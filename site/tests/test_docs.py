"""The documents name what there is."""

import re

import pytest

from processes import SITE

ROOT = SITE.parent
NOTES = ROOT / "docs" / "from-the-notes.md"
FOLDERS = "site|roles|runtime|bin|docs|playbooks"


@pytest.mark.parametrize("path", sorted(set(re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", NOTES.read_text()))))
def test_a_file_that_is_named_for_the_reader_of_the_notes_is_there(path: str) -> None:
    """Where it says "here", there it is."""
    assert (ROOT / path).exists()


def test_each_name_in_a_file_is_found_there() -> None:
    """`name` in `file`: the file has it."""
    named = re.findall(rf"`([\w.]+)` in `((?:{FOLDERS})/[\w./-]+)`", NOTES.read_text())
    assert len(named) >= 8
    assert [(name, path) for name, path in named if name not in (ROOT / path).read_text()] == []


def test_the_page_is_linked_where_one_would_look() -> None:
    """From the site's own page."""
    assert "(../docs/from-the-notes.md)" in (SITE / "README.md").read_text()
