"""A wheelhouse has of each package the file that a kind of host can install, or the run is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.errors import LockError
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.projects import Wanted
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.requirements import Line
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.wheels import Kind, Wheels, wheels

from testkit.index import Index

BOOKWORM = Kind("3.11.2", "2.36", "x86_64")
TRIXIE = Kind("3.13.5", "2.41", "x86_64")
ARM = Kind("3.13.5", "2.41", "aarch64")
OWN = "tool-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
NEWER = "tool-1.0-cp313-cp313-manylinux_2_39_x86_64.whl"
STABLE = "tool-1.0-cp38-abi3-manylinux2014_aarch64.whl"
MUSL = "tool-1.0-cp313-cp313-musllinux_1_2_x86_64.whl"
SOURCE = "tool-1.0.tar.gz"


class House:
    """A wheelhouse, and the index that it is filled from.

    Attributes:
        folder: where it is.
        lock: the exact versions.
    """

    def __init__(self, path: Path, index: Index) -> None:
        self.folder = path / ".wheelhouse"
        self.index = index
        self.lock = ""

    def locks(self, *names: str, on: str = "") -> None:
        """Let the index have files of the package `tool`, and the exact versions their digests."""
        files = [self.index.put("tool", name, name.encode()) for name in names]
        self.lock = str(Line(f"tool==1.0{on}", tuple(map(digest, files)))) + "\n"

    def wheels(self, kind: Kind = TRIXIE, *, write: bool = True) -> Wheels:
        """What a run does for a host."""
        return wheels(self.folder, [self.lock], kind, Wanted(self.folder, index_url=self.index.url), write=write)


def digest(file: Path) -> str:
    """The digest of a file, as a lock has it."""
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


@pytest.fixture
def house(tmp_path: Path, index: Index) -> House:
    """A wheelhouse that is not there yet."""
    return House(tmp_path, index)


@pytest.mark.parametrize(("kind", "name"), [(BOOKWORM, OWN), (TRIXIE, NEWER), (ARM, STABLE)], ids=str)
def test_a_host_has_the_wheel_that_fits_it(house: House, kind: Kind, name: str) -> None:
    house.locks(OWN, NEWER, STABLE, MUSL, SOURCE)

    assert {*house.wheels(kind).files} == {name}


def test_what_is_there_is_asked_for_no_more(house: House) -> None:
    house.locks(NEWER)
    assert house.wheels().fetched == 1
    house.index.asked.clear()

    again = house.wheels()

    assert ({*again.files}, again.fetched, house.index.asked) == ({NEWER}, 0, [])


def test_a_wheelhouse_that_was_brought_needs_no_index(house: House) -> None:
    house.locks(NEWER)
    house.folder.mkdir()
    (house.folder / NEWER).write_bytes(NEWER.encode())
    house.index.close()

    assert {*house.wheels().files} == {NEWER}


def test_what_is_for_other_hosts_is_left_out(house: House) -> None:
    house.locks(OWN, on=' ; python_full_version < "3.12"')

    assert {*house.wheels(BOOKWORM).files} == {OWN}
    assert {*house.wheels(TRIXIE).files} == set()


@pytest.mark.parametrize("names", [(OWN, SOURCE), (MUSL,)])
def test_a_package_without_a_wheel_that_fits_is_refused(house: House, names: tuple[str, ...]) -> None:
    house.locks(*names)

    with pytest.raises(LockError, match=r"no wheel of tool==1.0 for Python 3.13 on x86_64") as refused:
        house.wheels()

    assert "pip wheel --no-deps tool==1.0" in refused.value.remedy
    assert [*house.folder.iterdir()] == []


def test_what_the_index_has_and_the_lock_does_not_is_not_taken(house: House) -> None:
    house.locks(NEWER)
    house.index.put("tool", NEWER, b"another")

    with pytest.raises(LockError, match="another file than the lock has"):
        house.wheels()


def test_a_wheel_that_is_another_is_refused_and_named(house: House) -> None:
    house.locks(NEWER)
    house.wheels()
    (house.folder / NEWER).write_bytes(b"another")
    house.index.asked.clear()

    with pytest.raises(LockError, match="is not the file that the exact versions have") as refused:
        house.wheels()

    assert str(house.folder / NEWER) in str(refused.value)
    assert house.index.asked == []


def test_all_that_is_missing_is_named_where_no_index_answers(house: House) -> None:
    house.locks(NEWER)
    house.lock += "other==2.0 --hash=sha256:00\n"
    house.index.close()

    with pytest.raises(LockError, match=r"tool==1.0, other==2.0 .*does not answer") as refused:
        house.wheels()

    assert "open-sesame" not in str(refused.value)


def test_where_nothing_may_be_written_nothing_is_fetched(house: House) -> None:
    house.locks(NEWER)

    assert house.wheels(write=False) == Wheels({}, 0)
    assert not house.folder.exists()
    assert house.index.asked == []
