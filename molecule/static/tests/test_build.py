"""What a release is built with can be used by its owner, whatever umask a run had."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible import module_utils

# Where Ansible finds our part of its name space when it runs.
module_utils.__path__.append(str(Path(__file__).resolve().parents[3] / "plugins/module_utils"))
from ansible.module_utils.site_build import Build, Releases  # noqa: E402


class Module:
    """What `Build` asks of Ansible's module: its parameters, and to run commands."""

    def __init__(self) -> None:
        self.params = {"release": "0123456789ab", "lock_file": "requirements.txt", "uv_requirements": "uv==1.0"}

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        """Run a command on this computer."""
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Any]:
    """A release that is about to be built below a folder."""
    site = {"root": str(tmp_path), "owner": "site_deploy", "group": "site", "environment_files": []}
    yield Build(Module(), Releases(Module(), site))


def test_a_uv_that_others_could_not_run_is_mended(tmp_path: Path, build: Any) -> None:
    uv = tmp_path / "tools/uv-1.0/bin/uv"
    uv.parent.mkdir(parents=True)
    uv.write_text("#!/bin/sh\n")
    uv.chmod(0o750)
    for folder in (uv.parent, uv.parents[1], uv.parents[2]):
        folder.chmod(0o750)

    build._make_uv()

    for path in (uv, uv.parent, uv.parents[1], uv.parents[2]):
        assert path.stat().st_mode & 0o777 == 0o755, path
