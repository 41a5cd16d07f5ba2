"""An archive of somebody's becomes files below one folder, and nothing else, whatever it says."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from ..preflight.source import SourceError

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError)


@dataclass(frozen=True)
class _Entry:
    """A file or a link of an archive.

    Attributes:
        name: its path in there.
        content: of a file; None for a link.
        target: where a link leads.
        executable: whether the owner may execute the file.
    """

    name: PurePosixPath
    content: IO[bytes] | None = None
    target: str = ""
    executable: bool = False


def unpack(archive: Path, into: Path) -> None:
    """Unpack an archive; of one whose files are all in one folder, as all but wheels are packed, what is in that.

    The links are made when all files are written: no file can be written through one.

    Args:
        archive: a tar file, compressed or not, or a zip file such as a wheel.
        into: an empty folder.

    Raises:
        SourceError: it cannot be read, or has what would not be a file below the folder.
    """
    try:
        links = [entry for entry in _entries(archive) if not _written(entry, into)]
        for link in links:
            path = into / _inside(link.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(link.target)
    except _BROKEN as error:
        raise SourceError(f"{archive.name} cannot be unpacked: {error}.", f"file {archive.name}") from None
    inside = [*into.iterdir()]
    if archive.suffix != ".whl" and len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink():
        top = into.with_name("top")
        inside[0].rename(top)
        into.rmdir()
        top.rename(into)


def _written(entry: _Entry, into: Path) -> bool:
    if entry.content is None:
        return False
    path = into / _inside(entry.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with entry.content, path.open("xb") as stream:
        shutil.copyfileobj(entry.content, stream)
    path.chmod(0o755 if entry.executable else 0o644)
    return True


def _inside(name: PurePosixPath) -> PurePosixPath:
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise ValueError(f"it has a file {name}, which is not below its folder")
    return name


def _entries(archive: Path) -> Iterator[_Entry]:
    return _of_zip(archive) if zipfile.is_zipfile(archive) else _of_tar(archive)


def _of_tar(archive: Path) -> Iterator[_Entry]:
    with tarfile.open(archive) as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            if member.isreg():
                yield _Entry(name, tar.extractfile(member), executable=bool(member.mode & 0o100))
            elif member.issym():
                yield _Entry(name, target=member.linkname)
            elif not member.isdir() and member.type not in tarfile.SUPPORTED_TYPES:
                continue  # a header of a kind that says nothing about a file
            elif not member.isdir():
                raise ValueError(f"it has {name}, which is neither a file, a folder nor a symbolic link")


def _of_zip(archive: Path) -> Iterator[_Entry]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            name, mode = PurePosixPath(member.filename), member.external_attr >> 16
            if stat.S_ISLNK(mode):
                yield _Entry(name, target=file.read(member).decode())
            elif not member.is_dir():
                yield _Entry(name, file.open(member), executable=bool(mode & 0o100))
