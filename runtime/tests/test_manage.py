"""The operator's `manage.py` has the results of the site's processes."""

import subprocess
import sys
from pathlib import Path

import pytest

MANAGE = """\
import sys
from django.core.management import execute_from_command_line
if __name__ == "__main__":
    execute_from_command_line(sys.argv)
"""


@pytest.fixture
def environment(bare_environment: dict[str, str], project: Path) -> dict[str, str]:
    """The environment of a command of the operator, whose project has a `manage.py`."""
    (project / "manage.py").write_text(MANAGE)
    return {**bare_environment, "CELERIAC_RESULT_BACKEND": "redis://127.0.0.1:6390/0"}


def manage(environment: dict[str, str], project: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of `manage.py`."""
    command = [sys.executable, "-m", "celeriac.manage", *words]
    return subprocess.run(command, env=environment, cwd=project, capture_output=True, text=True, check=False)


def test_it_reads_results_where_the_processes_keep_them(environment: dict[str, str], project: Path) -> None:
    code = "from demo.celery import app; print(app.backend.connparams['port'])"
    done = manage(environment, project, "shell", "-c", code)
    assert done.stdout.split()[-1:] == ["6390"], done.stderr


def test_a_project_need_not_have_one(environment: dict[str, str], project: Path) -> None:
    (project / "manage.py").unlink()
    done = manage(environment, project, "diffsettings", "--default", "celeriac")
    assert done.returncode == 0, done.stderr
    assert "ROOT_URLCONF" in done.stdout


def test_it_works_without_the_tasks(environment: dict[str, str], project: Path) -> None:
    done = manage({**environment, "CELERIAC_CELERY_APP": "nowhere"}, project, "help", "migrate")
    assert done.stdout.startswith("usage: manage.py migrate")
    assert "CELERIAC_CELERY_APP=nowhere" in done.stderr
