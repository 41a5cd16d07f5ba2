"""uv on the computer that runs Ansible, in the version that came with it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ansible_collections.celeriac.site.plugins.module_utils.site_build import CA_STORE

from .errors import LockError
from .projects import Wanted

try:
    from uv import find_uv_bin
except ImportError:
    find_uv_bin = None  # type: ignore[assignment]

# Of what uv says: the reason stands first.
_LINES_SHOWN = 12


class UvError(Exception):
    """uv has refused; the message is its own."""


def uv(wanted: Wanted, folder: Path, *arguments: str | Path) -> str:
    """Return what uv prints.

    Args:
        wanted: the choices; the addresses of indexes may hold passwords, so they are told by environment.
        folder: where it is run.
        arguments: its command.

    Raises:
        LockError: there is none.
        UvError: it refused.
    """
    if find_uv_bin is None:
        raise LockError("Exact versions are worked out by uv, and it is not where Ansible is.", "pip install uv")
    indexes = {"UV_DEFAULT_INDEX": wanted.index_url, "UV_INDEX": " ".join(wanted.extra_index_urls)}
    environment = {
        # The computer's own list of authorities, which knows that of a company's proxy; uv has another one.
        **({"SSL_CERT_FILE": CA_STORE} if Path(CA_STORE).exists() else {}),
        # That of a virtualenv in which somebody works is not that of the site.
        **{name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
        **{name: value for name, value in indexes.items() if value},
        "UV_PYTHON_DOWNLOADS": "never",
        "NO_COLOR": "1",
    }
    command = [find_uv_bin(), "--quiet", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise UvError("\n".join(lines[:_LINES_SHOWN]))
    return done.stdout
