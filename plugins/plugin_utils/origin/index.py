"""A file of a package, from the index that has it (PEP 503, PEP 691).

pip, asked for a source distribution, would run the setup.py in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from ..preflight.source import SourceError
from ..resolve.requirements import Line
from .origin import basic

PYPI = "https://pypi.org/simple"
_ACCEPTED = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_TIMEOUT_SECONDS = 60
_VERSIONS_SHOWN = 5


@dataclass(frozen=True)
class File:
    """A file of a package.

    Attributes:
        name: of the file.
        url: where it is.
        digest: `sha256:…`, as the index has it; empty where it says none.
        login: `name:password` of the index that has it.
    """

    name: str
    url: str
    digest: str
    login: str

    @property
    def is_wheel(self) -> bool:
        """Say whether it was built."""
        return self.name.endswith(".whl")

    @property
    def version(self) -> Version | None:
        """Return which version it is; None where it can be no source."""
        try:
            if self.is_wheel:
                _, version, _, tags = parse_wheel_filename(self.name)
                return version if any(tag.platform == "any" and tag.abi == "none" for tag in tags) else None
            return parse_sdist_filename(self.name)[1]
        except (InvalidSdistFilename, InvalidWheelFilename, InvalidVersion):
            return None


def download(package: Line, indexes: Iterable[str], digest: str, into: Path, *, built: bool = False) -> Path:
    """Fetch the source of a package: its source distribution, or a wheel that is for every system where it has none.

    Args:
        package: which, with its version.
        indexes: where it may be; the first one that knows the package counts, as for uv.
        digest: the one that it must have; empty for any.
        into: a folder.
        built: whether it must be that wheel.

    Raises:
        SourceError: there is none, or it is another.
    """
    found = [file for file in files_of(package, indexes) if file.version and (file.is_wheel or not built)]
    chosen = [file for file in found if file.version == Version(package.version)]
    if not chosen:
        versions = sorted({file.version for file in found if file.version}, reverse=True)
        newest = ", ".join(map(str, versions[:_VERSIONS_SHOWN]))
        raise SourceError(
            f"There is no {'wheel for every system' if built else 'source'} of {package.text}; "
            f"there is {newest or 'none at all'}.",
            f"site_source: {package.name}=={versions[0] if versions else '1.2'}",
        )
    return fetch(min(chosen, key=lambda file: (file.digest != digest, file.is_wheel)), into)


def fetch(file: File, into: Path, known: Collection[str] = ()) -> Path:
    """Fetch a file, which is in the folder whole and as the index has it, or not at all.

    Args:
        file: which.
        into: the folder.
        known: the digests of which it must have one, whatever the index says; none for any.

    Raises:
        SourceError: it does not come, or comes as another.
    """
    with tempfile.TemporaryDirectory(dir=into, prefix=".") as folder:
        archive = Path(folder) / file.name
        with _opened(file.url, file.login) as answer, archive.open("wb") as stream:
            shutil.copyfileobj(answer, stream)
        if file.digest and digest_of(archive) != file.digest:
            raise SourceError(
                f"{file.name} did not arrive as the index has it.", "the same again, or another index: site_index_url"
            )
        if known and digest_of(archive) not in known:
            raise SourceError(f"{file.name} of the index is another file than the lock has.", "-e site_relock=true")
        return archive.replace(into / file.name)


def digest_of(file: Path) -> str:
    """Return the digest of a file, as files of requirements have it."""
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def where(index_url: str, extra_index_urls: Iterable[str]) -> list[str]:
    """Return all indexes in the order in which they are asked; one that uv is told of by environment is one of them."""
    default = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or PYPI
    return [*extra_index_urls, index_url or default]


def files_of(package: Line, indexes: Iterable[str]) -> list[File]:
    """Return the files of a package, in the first index that knows it.

    Args:
        package: which.
        indexes: their addresses.

    Raises:
        SourceError: one does not answer.
    """
    for index in indexes:
        address, login = _without_login(f"{index.rstrip('/')}/{canonicalize_name(package.name)}/")
        try:
            with _opened(address, login) as answer:
                body, kind, base = answer.read(), answer.headers.get_content_type(), answer.url
        except FileNotFoundError:
            continue
        found = _of_json(body) if kind.endswith("json") else _of_html(body.decode(errors="replace"))
        return [_file(name, urljoin(base, url), digest, address, login) for name, url, digest in found]
    return []


def _file(name: str, url: str, digest: str, index: str, login: str) -> File:
    address, own = _without_login(url)
    is_there = urlsplit(address)[:2] == urlsplit(index)[:2]  # the password is nobody else's
    return File(name, address, digest, own or (login if is_there else ""))


def _of_json(body: bytes) -> Iterator[tuple[str, str, str]]:
    for file in json.loads(body)["files"]:
        digest = file["hashes"].get("sha256", "")
        yield file["filename"], file["url"], f"sha256:{digest}" if digest else ""


class _Links(HTMLParser):
    """The addresses that a page leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a link."""
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _of_html(body: str) -> Iterator[tuple[str, str, str]]:
    page = _Links()
    page.feed(body)
    for link in page.found:
        url, mark = urldefrag(link)
        kind, _, digest = mark.partition("=")
        yield unquote(url).rpartition("/")[2], url, f"sha256:{digest}" if kind == "sha256" else ""


def _without_login(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=host)), login


def _opened(url: str, login: str) -> Any:
    """Open an address.

    Raises:
        FileNotFoundError: the index does not have it.
        SourceError: it does not answer, or not with what was asked for.
    """
    remedy = "site_index_url: https://pypi.mysite.org/simple        (or site_extra_index_urls; with a password in it)"
    if urlsplit(url).scheme not in ("https", "http"):
        raise SourceError(f"A package is fetched from an index that is on the web, and this is {url}.", remedy)
    request = urllib.request.Request(url, headers={"Accept": _ACCEPTED, "User-Agent": "celeriac"})
    if login:
        request.add_unredirected_header("Authorization", basic(login))
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise FileNotFoundError(url) from None
        raise SourceError(f"{url} answers with {error.code} {error.reason}.", remedy) from None
    except (OSError, HTTPException) as error:
        raise SourceError(f"{url} does not answer: {getattr(error, 'reason', error)}.", remedy) from None
