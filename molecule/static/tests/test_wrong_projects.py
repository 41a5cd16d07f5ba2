"""Ways in which a project can be wrong: each is told by what is wrong, where, and what would be right.

First what is refused before a host is touched; then what only the steps of a release can see, which run here as they do
there. A compiler that a host does not have is in `test_hints.py`, a Python that it does not have in `test_resolve.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.celeriac.site.plugins.module_utils.site_hints import with_hints
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.check import View
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.problem import Problem
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.errors import LockError
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.projects import Wanted
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.resolve import VERSIONS, resolve
from packaging.specifiers import SpecifierSet
from uv import find_uv_bin

from testkit.index import PASSWORD, Index

ROOT = Path(__file__).resolve().parents[3]
# A project that is right. It has no STATIC_ROOT: each release gives it its own.
PROJECT = {
    "manage.py": "",
    "requirements.txt": "django\ncelery\n",
    "config/__init__.py": "from config.celery import app\n",
    "config/celery.py": "from celery import Celery\napp = Celery('config')\n",
    "config/settings.py": """\
import os
SECRET_KEY = "x" * 50
INSTALLED_APPS = ["django.contrib.staticfiles", "app"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
ROOT_URLCONF = "config.urls"
STATIC_URL = "/static/"
""",
    "config/urls.py": "urlpatterns = []\n",
    "config/wsgi.py": "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
    "config/asgi.py": "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n",
    "app/__init__.py": "",
    "app/static/app/site.css": "",
}
SETTINGS = PROJECT["config/settings.py"]
CHOICES = """\
site_settings_module: config.settings
site_celery_app: config
site_wsgi_application: config.wsgi:application
"""
MAIN = "group_vars/all/main.yml"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a right project."""
    folder = tmp_path / "project"
    for name, text in PROJECT.items():
        write(folder, name, text)
    return folder


def write(folder: Path, name: str, text: str) -> None:
    """Write a file of a project."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


# ── Before a host is touched ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Wrong:
    """A project that is refused.

    Attributes:
        says: what is wrong.
        example: what is right.
        edit: makes the project wrong.
        chosen: lines of the inventory that do.
        where: the file that the message names, from its end.
    """

    says: str
    example: str
    edit: Callable[[Path], None] = lambda folder: None
    chosen: str = ""
    where: str = MAIN


def locked_before(folder: Path) -> None:
    """Ask for a package more than the lock has."""
    text = '[project]\nname = "mysite"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["django"]\n'
    write(folder, "pyproject.toml", text)
    subprocess.run([find_uv_bin(), "lock", "--quiet", "--python", sys.executable], cwd=folder, check=True)
    write(folder, "pyproject.toml", text.replace('"django"', '"django", "celery"'))


def of_another_python(folder: Path) -> None:
    """Let the project run on a Python that no Debian has."""
    write(folder, "pyproject.toml", '[project]\nname = "mysite"\nversion = "1"\nrequires-python = "==3.12.*"\n')


def with_celery(version: str) -> Callable[[Path], None]:
    """Return an edit that pins Celery."""
    return lambda folder: write(folder, "requirements.txt", f"django\ncelery=={version}\n")


def below(folder: Path) -> None:
    """Move the project into a folder."""
    (folder / "src").mkdir()
    for name in ("manage.py", "config", "app"):
        (folder / name).rename(folder / "src" / name)


REFUSED = {
    "a lock that is not the project's": Wrong(
        "uv.lock is not what its pyproject.toml asks for any more", "&& uv lock", locked_before
    ),
    "a Python that is not there": Wrong("allows Python ==3.12.* only", 'requires-python = ">=3.11"', of_another_python),
    "no word about packages": Wrong(
        "has none of uv.lock, poetry.lock, requirements.txt, pyproject.toml",
        "site_requirements: [django",
        lambda folder: (folder / "requirements.txt").unlink(),
    ),
    "a lock of another form": Wrong(
        "Pipfile.lock in", "site_lock: requirements.txt", lambda folder: write(folder, "Pipfile.lock", "{}"),
        "site_lock: Pipfile.lock\n",
    ),
    "a Celery that is too old": Wrong(
        "requirements.txt has celery 5.3.6, and a site works with celery >=5.4", '["celery>=5.4', with_celery("5.3.6")
    ),
    "a Celery that nobody has tried": Wrong(
        "requirements.txt has celery 5.8.0, and", '["celery>=5.4,<5.8"]', with_celery("5.8.0")
    ),
    "an index with another password": Wrong(
        "An index does not let uv in, which asks it for the packages of requirements.txt", "site_index_url: ",
        chosen="site_index_url: ANOTHER\n",
    ),
    "no manage.py in this folder": Wrong(
        "no manage.py in it, nor the module `config.settings`", "site_source_folder: src", below
    ),
    "a folder that is not there": Wrong(
        "no manage.py in source", "site_source: /", chosen="site_source_folder: source\n"
    ),
    "settings that are not there": Wrong(
        "`site_settings_module` is `config.production`, and", "site_settings_module: ",
        chosen="site_settings_module: config.production\n",
    ),
    "no module with the Celery app": Wrong(
        "`site_celery_app` is `mysite`, and", "site_celery_app: ", chosen="site_celery_app: mysite\n"
    ),
    "no module with the application": Wrong(
        "has no module `config.web`", "site_wsgi_application: ", chosen="site_wsgi_application: config.web:app\n"
    ),
    "no module with the ASGI application": Wrong(
        "`site_asgi_application` is `config.web:app`, and", "site_asgi_application: TimeOut.asgi",
        chosen="site_wsgi_application\nsite_asgi_application: config.web:app\n",
    ),
    "two applications": Wrong(
        "`site_asgi_application` is set, and so is `site_wsgi_application`", "site_asgi_application: config.asgi",
        chosen="site_asgi_application: config.asgi:application\n",
    ),
    "a data folder inside of a release": Wrong(
        "`site_data_folders` holds `../current/app/media`", "site_data_folders: [media",
        chosen="site_data_folders: [../current/app/media]\n",
    ),
    "a name that is no setting": Wrong(
        "`site_settings` has `Debug`, which is no name of a setting", "site_settings: { LANGUAGE_CODE",
        chosen="site_settings: { Debug: true }\n",
    ),
    "a domain that is none": Wrong(
        "`site_domain_aliases` holds `https://a.test/`, which is no host name", "site_domain_aliases: [mysite.org]",
        chosen="site_domain_aliases: ['https://a.test/']\n",
    ),
}  # fmt: skip


def refused(inventory: Any, index: Index) -> list[Problem]:
    """What a run says of an inventory before it touches a host."""
    found: list[Problem] = inventory.problems()
    if found:
        return found
    site = View(inventory.read())
    try:
        fact = site.value("h1", "site_project")
        resolve(Wanted.from_fact(fact, Path(fact["source"])), inventory.folder / "site.lock.txt")
    except LockError as error:
        return [Problem(str(error), site.place("h1", error.choice), error.remedy)]
    assert index.asked, "nothing was resolved"
    return []


def described(inventory: Any, project: Path, index: Index, chosen: str) -> None:
    """Write the inventory of a project; its later lines count."""
    lines = f"{CHOICES}site_source: {project}\nsite_index_url: {index.url}\n"
    # A name alone is one that this inventory does not choose.
    names = {line.partition(":")[0] for line in chosen.splitlines()}
    chosen = "".join(f"{line}\n" for line in chosen.splitlines() if ":" in line)
    kept = [line for line in lines.splitlines() if line.partition(":")[0] not in names]
    another = index.url.replace(PASSWORD, "another")
    inventory.choose("\n".join([*kept, chosen.replace("ANOTHER", another)]) + "\n")


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_refused_before_a_host_is_touched(
    inventory: Any, project: Path, index: Index, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    wrong = REFUSED[case]
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    for version in ("5.3.6", "5.8.0"):
        index.add("celery", version, "kombu")
    wrong.edit(project)
    described(inventory, project, index, wrong.chosen)

    problems = refused(inventory, index)

    assert len(problems) == 1, problems
    assert wrong.says in problems[0].what
    assert wrong.example in problems[0].example
    assert wrong.where in str(problems[0].place)
    assert PASSWORD not in str(problems[0])


def test_what_is_right_is_not_refused(inventory: Any, project: Path, index: Index) -> None:
    described(inventory, project, index, "")
    assert refused(inventory, index) == []


def test_what_is_right_on_asgi_is_not_refused(inventory: Any, project: Path, index: Index) -> None:
    """And has what serves it."""
    for name in ("uvicorn", "uvicorn-worker", "websockets"):
        index.add(name, "99.0")
    described(inventory, project, index, "site_wsgi_application\nsite_asgi_application: config.asgi:application\n")
    assert refused(inventory, index) == []
    assert "\nuvicorn-worker==99.0" in (inventory.folder / "site.lock.txt").read_text()


def test_versions_that_pass_are_those_that_were_tried() -> None:
    """The table of `docs/versions.md`."""
    lines = [line.split("|")[1:-1] for line in (ROOT / "docs/versions.md").read_text().splitlines() if line[:1] == "|"]
    tried = {name.strip(): [version.strip() for version in versions] for name, *versions in lines}

    for library, allowed in VERSIONS.items():
        assert [version for version in tried[library] if version not in SpecifierSet(allowed)] == []


# ── In the steps of a release ────────────────────────────────────────────────────────────────────

STEPS = ("-m", "celeriac.release", "check", "import", "migrate", "static")
# What a beat begins with.
BEAT = (
    "-c",
    "import config, django; django.setup(); from celeriac.beat import scheduler; scheduler.scheduler(config.app)",
)
QUEUES = ("-m", "celeriac.release", "queues")
ROUTED = 'app.conf.task_routes = {"app.tasks.write": {"queue": "mail"}}\n'
SCHEDULER = 'app.conf.beat_scheduler = "django_celery_beat.schedulers:DatabaseScheduler"\n'


@dataclass(frozen=True)
class Failing:
    """A project whose release is not switched in.

    Attributes:
        files: those that are wrong.
        says: what is wrong, and where; as the run prints it.
        example: what is right.
        environment: what the inventory has made of a wrong choice.
        command: what fails, behind `python`.
    """

    files: dict[str, str]
    says: tuple[str, ...]
    example: str = ""
    environment: dict[str, str] | None = None
    command: tuple[str, ...] = STEPS


FAILING = {
    "settings that do not import": Failing(
        {"config/settings.py": SETTINGS + "import a_missing_library"},
        ('config/settings.py", line 7', "No module named 'a_missing_library'"),
        "or `site_requirements`",
    ),
    "variables that are missing": Failing(
        {"config/settings.py": SETTINGS + "os.environ['MAIL_URL']; os.environ['LICENCE']"},
        ("the settings ask for MAIL_URL, LICENCE, which the environment does not have",),
        "site_environment: { MAIL_URL: …, LICENCE: … }",
    ),
    "no Celery app": Failing(
        {"config/__init__.py": "", "config/celery.py": "from celery import Celery"},
        ("CELERIAC_CELERY_APP=config: ",),
        "`site_celery_app: config`",
    ),
    "no WSGI application": Failing(
        {},
        ("CELERIAC_WSGI_APPLICATION=config.wsgi:app: module 'config.wsgi' has no attribute 'app'",),
        "`site_wsgi_application: config.wsgi:application`",
        {"CELERIAC_WSGI_APPLICATION": "config.wsgi:app"},
    ),
    "an ASGI application": Failing(
        {},
        ("CELERIAC_WSGI_APPLICATION=config.asgi:application is an ASGI application",),
        "`site_asgi_application: config.asgi:application`",
        {"CELERIAC_WSGI_APPLICATION": "config.asgi:application"},
    ),
    "a WSGI application for websockets": Failing(
        {},
        ("CELERIAC_ASGI_APPLICATION=config.wsgi:application is a WSGI application, not an ASGI application",),
        "`site_asgi_application: config.asgi:application`, say; empty for a project on WSGI",
        {"CELERIAC_ASGI_APPLICATION": "config.wsgi:application"},
    ),
    "a check that fails": Failing(
        {"config/settings.py": SETTINGS + "CACHES = {}"},
        ("check: failed", "(caches.E001) You must define a 'default' cache"),
        "`site_check_ignore: [caches.E001, ",
    ),
    "a migration that fails": Failing(
        {
            "app/migrations/__init__.py": "",
            "app/migrations/0001_initial.py": "from django.db import migrations\n"
            "class Migration(migrations.Migration):\n"
            "    operations = [migrations.RunSQL('INSERT INTO no_such_table VALUES (1)')]",
        },
        ("migrate: failed", "app.0001_initial", "no such table: no_such_table"),
    ),
    "static files of another address": Failing(
        {"config/settings.py": SETTINGS + "STATIC_URL = '/assets/'"},
        ("check: failed", "STATIC_URL of the project is '/assets/'"),
        "`site_static_url: /assets/`",
        {"CELERIAC_STATIC_URL": "/static/"},
    ),
    "a queue that no pool reads": Failing(
        {"config/celery.py": PROJECT["config/celery.py"] + ROUTED},
        ("queues: failed", "'app.tasks.write' in task_routes sends to the queue mail"),
        "celery_worker_pools: { mail: { queues: [mail] } }",
        {"CELERIAC_WORKER_QUEUES": json.dumps({"plain": [["celery"]], "pools": [], "others": []})},
        QUEUES,
    ),
    "a pool whose queue nobody feeds": Failing(
        {"config/celery.py": PROJECT["config/celery.py"] + ROUTED},
        ("queues: failed", "The pool letters reads the queue mial, and nothing of the project sends to it"),
        "site_other_queues: [mial]",
        {
            "CELERIAC_WORKER_QUEUES": json.dumps(
                {
                    "plain": [["celery", "mail"]],
                    "pools": [{"key": "letters", "value": {"queues": ["mial"]}}],
                    "others": [],
                }
            )
        },
        QUEUES,
    ),
    "a command that is not there": Failing(
        {},
        ("site_commands: consumer is manage.py migrat, and the project has no such command (migrate",),
        environment={"CELERIAC_CHOSEN_COMMANDS": json.dumps({"site_commands: consumer": {"command": ["migrat"]}})},
        command=("-m", "celeriac.release", "commands"),
    ),
    "a program that is not there": Failing(
        {},
        ("site_timers: report is the program no-such-program, and the virtualenv of the release has none",),
        environment={"CELERIAC_CHOSEN_COMMANDS": json.dumps({"site_timers: report": {"program": ["no-such-program"]}})},
        command=("-m", "celeriac.release", "commands"),
    ),
    "a beat without its app": Failing(
        {"config/celery.py": PROJECT["config/celery.py"] + SCHEDULER},
        ("django_celery_beat",),
        "belongs into INSTALLED_APPS. Where nothing is scheduled, the group `beat` has no host: `beat: {}`",
        command=BEAT,
    ),
}


def run(project: Path, command: tuple[str, ...], more: dict[str, str] | None) -> subprocess.CompletedProcess[str]:
    """Run Python as a host does, in the environment of the site; its errors are part of what it prints."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{project}:{ROOT / 'runtime'}",
        "DJANGO_SETTINGS_MODULE": "celeriac.settings",
        "CELERIAC_SETTINGS_MODULE": "config.settings",
        "CELERIAC_CELERY_APP": "config",
        "CELERIAC_WSGI_APPLICATION": "config.wsgi:application",
        "CELERIAC_CHECK_FAIL_LEVEL": "ERROR",
        "STATIC_ROOT": f"{project.parent}/static",
    }
    return subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env=environment | (more or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("case", FAILING)
def test_what_only_a_release_can_see_is_told_as_well(project: Path, case: str) -> None:
    failing = FAILING[case]
    for name, text in failing.files.items():
        write(project, name, text)

    done = run(project, failing.command, failing.environment)
    told = with_hints(done.stdout)

    assert done.returncode == 1, told
    assert [words for words in failing.says if words not in told] == [], told
    assert failing.example in told, told


@pytest.mark.parametrize("more", [{}, {"CELERIAC_WSGI_APPLICATION": "", "CELERIAC_ASGI_APPLICATION": "config.asgi"}])
def test_a_release_of_the_right_project_passes(project: Path, more: dict[str, str]) -> None:
    done = run(project, STEPS, more)
    assert done.returncode == 0, done.stdout
    assert (project.parent / "static/app/site.css").is_file()
