"""A project's settings, imported once on this computer, as its processes on a host would have them.

Its packages come into an environment of their own, which is thrown away. A value that a host will have is marked: where
the settings show the mark, they read it; else the inventory has to lay it over them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.errors import LockError
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.projects import Wanted
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.uv import UvError, uv

from cli.init.known import MARKS, PLACEHOLDER, known, marked
from cli.places import RUNTIME

_IMPORTED = Path(__file__).with_name("imported.py")
_TIMEOUT_SECONDS = 180
# What uv says of a package that this Python is too old for.
_NEWER = re.compile(r"current Python version \([\d.]+\) does not\s+satisfy Python(>=[\d.]+)")


class TrialError(Exception):
    """The settings were not imported; the message says why."""


@dataclass(frozen=True)
class Trial:
    """What the settings of a project are.

    Attributes:
        environment: what the inventory gives to variables that they ask for, by their names.
        unknown: variables that they ask for, of which nobody here knows what they mean.
        settings: some of them.
        celery: of the app: namespace, broker, results, queues, has_schedule.
        pages: health, pages, admin_login.
        findings: what `check --deploy` says of security.
        errors: of the parts above that could not be had, why.
    """

    environment: Mapping[str, str]
    unknown: list[str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    celery: Mapping[str, Any] = field(default_factory=dict)
    pages: Mapping[str, Any] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    errors: Mapping[str, str] = field(default_factory=dict)


def try_out(wanted: Wanted, lock: Path, root: Path, module: str, app: str, more: Mapping[str, str]) -> Trial:
    """Import the settings of a project.

    Args:
        wanted: the choices, which say where packages come from.
        lock: the exact versions.
        root: the folder of its modules.
        module: its settings.
        app: of Celery, as `celery -A` has it.
        more: variables that the inventory sets.

    Raises:
        TrialError: its packages cannot be had here, or its Python is not here.
    """
    with tempfile.TemporaryDirectory(prefix="celeriac-init-") as scratch:
        python = _installed(wanted, lock, Path(scratch))
        environment = {**MARKS, **{name: marked(value) for name, value in more.items()}}
        first = _asked(python, root, module, app, environment)
        found = {name: known(name) for name in first["missing"]}
        guessed = {name: value for name, value in found.items() if value}
        values = {name: marked(value) for name, value in guessed.items()}
        unknown = [name for name, value in found.items() if not value]
        second = first
        if found:
            second = _asked(python, root, module, app, environment | dict.fromkeys(unknown, PLACEHOLDER) | values)
            # A value that is no number or address may have hidden others.
            unknown += second["missing"]
    parts = {name: second[name] for name in ("settings", "celery", "pages", "findings") if name in second}
    return Trial(guessed, unknown, errors=second["errors"], **parts)


def _installed(wanted: Wanted, lock: Path, scratch: Path) -> Path:
    """Return the Python of an environment with the project's packages; a newer one than ours, where they need that."""
    version = wanted.python or f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        return _filled(wanted, lock, scratch / "venv", version)
    except (UvError, LockError) as error:
        newer = _NEWER.search(str(error))
        if not newer:
            raise TrialError(str(error)) from None
    try:
        return _filled(wanted, lock, scratch / "newer", newer[1])
    except (UvError, LockError) as error:
        raise TrialError(str(error)) from None


def _filled(wanted: Wanted, lock: Path, here: Path, version: str) -> Path:
    try:
        uv(wanted, here.parent, "venv", "--python", version, here)
    except (UvError, LockError):
        raise TrialError(
            f"They need Python {version}, which this computer has not: `init` on one that has it."
        ) from None
    uv(wanted, here.parent, "pip", "install", "--python", here, "--require-hashes", "--requirement", lock)
    return here / "bin" / "python"


def _asked(python: Path, root: Path, module: str, app: str, environment: Mapping[str, str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="celeriac-init-") as home:
        into = Path(home) / "found.json"
        words = [str(python), str(_IMPORTED), module, app, str(into)]
        variables = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": home,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": f"{root}:{RUNTIME}",
            "DJANGO_SETTINGS_MODULE": module,
            "STATIC_ROOT": f"{home}/static",
            **environment,
        }
        try:
            done = subprocess.run(
                words, cwd=root, env=variables, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise TrialError(f"after {_TIMEOUT_SECONDS} s they were not imported") from None
        if not into.is_file():
            raise TrialError("\n".join(done.stderr.strip().splitlines()[-3:]))
        found: dict[str, Any] = json.loads(into.read_text())
        return found
