"""Which static file stands for which name, from the build of a release to its end."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from ansible_collections.celeriac.site.plugins.module_utils import site_build
from ansible_collections.celeriac.site.plugins.module_utils.site_build import Releases
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Site

OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"


@pytest.fixture
def releases(known: Site) -> Releases:
    """The folders of a host, still without a release."""
    made = Releases(lambda command: (0, "", ""), known)
    for folder in (made.folder, made.static, made.immutable):
        folder.mkdir(parents=True)
    return made


def marked(name: str, content: str) -> str:
    """Return a name as Django's manifest storage writes it, with the hash of the content."""
    file = Path(name)
    return f"{file.stem}.{hashlib.md5(content.encode()).hexdigest()[:12]}{file.suffix}"


def collect(releases: Releases, release: str, files: dict[str, str]) -> None:
    """Put static files into a release, as collectstatic does."""
    for name, content in files.items():
        path = releases.path(release) / "static" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o640)


def served(folder: Path) -> dict[str, str]:
    """Return what a folder of nginx has, by names."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["site.css", "LICENSE", "a.b.js"])
def test_a_name_with_the_hash_of_its_content_is_kept_for_ever(releases: Releases, name: str) -> None:
    collect(releases, NEW, {f"app/{marked(name, 'new')}": "new"})

    releases.publish(NEW)

    assert served(releases.immutable) == {f"app/{marked(name, 'new')}": "new"}


@pytest.mark.parametrize("name", ["site.css", "site.0123456789ab.css", "site.v2.css", "0123456789ab", ".hidden"])
def test_any_other_name_is_not(releases: Releases, name: str) -> None:
    """A version, or a hash of something else, does not say what is in the file."""
    collect(releases, NEW, {name: "new"})

    releases.publish(NEW)
    releases.show(NEW)

    assert served(releases.immutable) == {}
    assert served(releases.static) == {name: "new"}


def test_of_a_candidate_nothing_replaces_what_serves(releases: Releases) -> None:
    old, new = marked("site.css", "old"), marked("site.css", "new")
    collect(releases, OLD, {"site.css": "old", old: "old"})
    releases.publish(OLD)
    releases.show(OLD)
    collect(releases, NEW, {"site.css": "new", "more.js": "new", new: "new"})

    releases.publish(NEW)

    assert served(releases.static) == {"site.css": "old"}
    assert served(releases.immutable) == {old: "old", new: "new"}
    assert not releases.shows(NEW)
    releases.show(NEW)
    assert served(releases.static) == {"site.css": "new", "more.js": "new"}
    assert releases.shows(NEW)
    assert not releases.shows(OLD)


def test_what_is_served_can_be_read_and_leads_nowhere_else(releases: Releases) -> None:
    collect(releases, NEW, {"app/site.css": "new", "app/staticfiles.json": "{}"})
    (releases.path(NEW) / "static/app/passwd").symlink_to("/etc/passwd")
    mask = os.umask(0o077)
    try:
        releases.show(NEW)
    finally:
        os.umask(mask)

    assert served(releases.static) == {"app/site.css": "new"}
    assert (releases.static / "app").stat().st_mode & 0o777 == 0o755
    assert (releases.static / "app/site.css").stat().st_mode & 0o777 == 0o644


def test_files_outlive_their_release_by_a_day_and_those_of_the_others_stay(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    same, gone = marked("site.css", "same"), marked("more.js", "gone")
    collect(releases, OLD, {"site.css": "same", same: "same"})
    collect(releases, NEW, {"site.css": "same", same: "same", gone: "gone", "more.js": "gone"})
    for release in (OLD, NEW):  # the second one, which goes, has put its own links in place
        releases.publish(release)
        releases.show(release)

    releases.remove([NEW])
    assert set(served(releases.immutable)) == {same, gone}
    monkeypatch.setattr(site_build, "STATIC_GRACE_SECONDS", -60)
    releases.remove([])

    assert served(releases.immutable) == {same: "same"}
    assert served(releases.static) == {"site.css": "same"}
