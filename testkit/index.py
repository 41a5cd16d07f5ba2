"""An index of packages on this computer, which wants a password."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import re
import threading
import zipfile
from pathlib import Path
from typing import Any

PASSWORD = "open-sesame"


class Index(http.server.ThreadingHTTPServer):
    """An index of packages on this computer, which wants a password.

    Attributes:
        folder: what it serves: a listing of a folder is all that the simple API is (PEP 503).
        asked: the paths that were asked for.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), functools.partial(Answer, directory=folder))
        self.folder = folder
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it is, with the password."""
        return f"http://reader:{PASSWORD}@127.0.0.1:{self.server_port}"

    def add(self, name: str, version: str, *needs: str, python: str = "") -> None:
        """Let it have a version of a package, for some versions of Python."""
        extras = set(re.findall(r'extra == "(\w+)"', " ".join(needs)))
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Python: {python}"] if python else []
        lines += [f"Provides-Extra: {extra}" for extra in extras] + [f"Requires-Dist: {need}" for need in needs]
        path = self._file(name, version)
        path.parent.mkdir(exist_ok=True)
        about = path.name.replace("-py3-none-any.whl", ".dist-info")
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(f"{about}/METADATA", "\n".join([*lines, ""]))
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "")

    def put(self, name: str, file: str, content: bytes) -> Path:
        """Let it have a file of a package."""
        path = self.folder / name / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    def close(self) -> None:
        """Let it answer no more."""
        self.shutdown()
        self.server_close()

    def hashed(self, name: str, version: str) -> str:
        """A line of a lock."""
        return f"{name}=={version} --hash=sha256:{hashlib.sha256(self._file(name, version).read_bytes()).hexdigest()}\n"

    def _file(self, name: str, version: str) -> Path:
        return self.folder / name / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"


class Answer(http.server.SimpleHTTPRequestHandler):
    """What the index says to who knows the password."""

    server: Index

    def send_head(self) -> Any:
        """Begin an answer."""
        self.server.asked.append(self.path)
        given = base64.b64encode(f"reader:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") == f"Basic {given}":
            return super().send_head()
        self.send_error(401)
        return None

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
