"""Bad releases: each is undone by itself, and what served before serves throughout."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from stack.lab import Site
from stack.load import Load, failures
from stack.releases import Release, append, replace
from stack.upgrading import only_in_full

from testkit.waiting import eventually

UNITS = ("celery-worker", "gunicorn")
# Where releases are put together, for the one that finds no room there.
RELEASES = "/srv/site/releases"
# Room for the code, and not for its virtualenv.
ROOM_MEGABYTES = 4
LOCKER = "holds-a-lock"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a release, or with the host that shall build it.

    Attributes:
        name: of the test.
        says: what the run must say of it, a regular expression; RELEASE stands for the release.
        edit: makes the copy of the project bad.
        around: what is wrong with the host meanwhile.
        chosen: what the inventory of the deploy has beside.
        is_built: whether it fails behind that: what was built stays, for the next run.
    """

    name: str
    says: str
    edit: Callable[[Path], None] = lambda source: None
    around: Callable[[Site], AbstractContextManager[None]] = lambda site: nullcontext()
    chosen: dict[str, object] = field(default_factory=dict)
    is_built: bool = True


def appended(file: str, *lines: str) -> Callable[[Path], None]:
    """Return an edit that adds lines to a file."""
    return lambda source: append(source / file, "\n".join(lines))


def migration(statement: str) -> Callable[[Path], None]:
    """Return an edit that adds a migration with one statement of SQL."""
    lines = [
        "from django.db import migrations",
        "class Migration(migrations.Migration):",
        '    dependencies = [("probe", "0001_initial")]',
        f"    operations = [migrations.RunSQL({statement!r}, migrations.RunSQL.noop)]",
    ]
    return appended("probe/migrations/0002_bad.py", *lines)


def unknown_version(source: Path) -> None:
    """Ask for a version of Django that nobody has published."""
    text = (source / "requirements.txt").read_text()
    found = re.search(r"(?m)^django==[\d.]+", text)
    assert found
    replace(source / "requirements.txt", found[0], "django==5.2.999")


@contextmanager
def no_room(site: Site) -> Iterator[None]:
    """Let the releases be on a disk that is almost full. Those that are made stay where they were."""
    # Put together elsewhere and moved: no process sees a moment without its release.
    site.machine.feed(f"""
        set -eu
        mkdir -p /run/full
        mount -t tmpfs -o size={ROOM_MEGABYTES}m,mode=0750 full /run/full
        chown site_deploy:site /run/full
        cd {RELEASES}
        for release in *; do
            mkdir /run/full/$release
            mount --bind $release /run/full/$release
        done
        mount --rbind /run/full {RELEASES}
    """)
    try:
        yield
    finally:
        # Lazily: the processes that were started meanwhile see it in a name space of their own.
        site.machine.feed(f"umount --recursive --lazy {RELEASES} /run/full")


@contextmanager
def somebody_reads(site: Site) -> Iterator[None]:
    """Let a transaction hold a table that everybody else may read and write, but not alter."""
    transaction = "BEGIN; LOCK TABLE auth_permission IN ACCESS SHARE MODE; SELECT pg_sleep(300)"
    psql = f"runuser --user=postgres -- psql --dbname=site --command='{transaction}'"
    site.machine.root.check_output(f"systemd-run --quiet --collect --unit={LOCKER} --working-directory=/ {psql}")
    holds = "SELECT count(*) FROM pg_locks WHERE relation = 'auth_permission'::regclass AND granted"
    try:
        eventually(lambda: site.sql(holds) != [["0"]], 20)
        yield
    finally:
        site.machine.systemctl("stop", LOCKER)


FAULTS = [
    Fault(
        "import-error-in-settings",
        "cannot import name 'no_such_thing'",
        appended("TimeOut/settings.py", "from django.conf import no_such_thing"),
    ),
    Fault(
        "import-error-in-a-task-module",
        "cannot import name 'NoSuchTask'",
        appended("app/tasks.py", "from app.models import NoSuchTask"),
    ),
    Fault(
        "import-error-in-a-view",
        "cannot import name 'NoSuchView'",
        appended("app/views.py", "from app.models import NoSuchView"),
    ),
    Fault(
        "missing-dependency",
        r"(?s)No module named 'rest_framework'.*No rest_framework is in the release: ",
        appended("TimeOut/settings.py", 'INSTALLED_APPS += ["rest_framework"]'),
    ),
    Fault("failing-migration", "division by zero", migration("SELECT 1 / 0")),
    Fault("migration-that-hangs", "(?i)migrat.*second", migration("SELECT pg_sleep(3600)")),
    Fault(
        "migration-behind-a-lock",
        "lock timeout",
        migration("ALTER TABLE auth_permission ADD COLUMN more integer"),
        somebody_reads,
    ),
    Fault(
        "gunicorn-that-never-gets-ready",
        r"gunicorn-RELEASE\.service: start operation timed out",
        appended(
            "TimeOut/wsgi.py",
            "import sys, time",
            'if "gunicorn" in sys.argv[0]:',
            "    time.sleep(3600)",
        ),
    ),
    Fault(
        "worker-that-exits",
        # What it says is shown without the secrets that it has.
        r"(?s)celery-worker-RELEASE\.service.*This worker cannot go on with \*{8}\W",
        appended(
            "TimeOut/celery.py",
            "from celery.signals import worker_init",
            "@worker_init.connect",
            "def give_up(**_):",
            '    print("This worker cannot go on with", os.environ["SECRET_KEY"], flush=True)',
            "    os._exit(3)",
        ),
    ),
    Fault(
        "health-endpoint-that-is-red",
        r"(?s)/health/.*503",
        appended(
            "TimeOut/urls.py",
            "from django.http import JsonResponse",
            "def red(request):",
            '    return JsonResponse({"database": "unavailable"}, status=503)',
            'urlpatterns.insert(0, path("health/", red))',
        ),
    ),
    # With another lock file: the virtualenv cannot be one that is there already.
    Fault(
        "full-disk-while-building",
        "No space left on device",
        appended("requirements.txt", "# Nothing more."),
        no_room,
        is_built=False,
    ),
    Fault("lock-file-that-does-not-resolve", r"django==5\.2\.999", unknown_version, is_built=False),
    Fault(
        "hook-that-hangs",
        r"(?s)step before_switch failed.*sleep 3600 did not end in 2 s",
        chosen={"site_release_hooks": {"before_switch": [{"command": "sleep 3600", "timeout_seconds": 2}]}},
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_bad_release_is_undone(site: Site, light_load: Load, serving: Release, fault: Fault) -> None:
    bad = site.make(fault.edit)
    with fault.around(site):
        play = site.start_deploy(bad, "--extra-vars", json.dumps(fault.chosen))
        run = play.wait()

    assert run.status != 0, "the run is green"
    assert re.search(fault.says.replace("RELEASE", bad.name), run.output), run.output
    assert site.faults(serving.name) == []
    # A process that has begun to stop may take a moment.
    site.wait_until_gone(bad.name, 20)
    assert site.files(bad.name) == ([f"{RELEASES}/{bad.name}"] if fault.is_built else [])
    answers = light_load.settled(play.began, play.ended)
    assert failures(answers) == []
    assert {answer.release for answer in answers} - {""} == {serving.name}


def test_a_setting_that_came_with_a_bad_release_is_undone_with_it(site: Site, serving: Release) -> None:
    """What serves is started again with what it was checked with, and the operator's commands see the same."""
    bad = site.make(appended("TimeOut/wsgi.py", 'raise SystemExit("This release is bad")'))
    environments = {
        "site_environment": {"CHOSEN_WITH": bad.name},
        "celery_worker_environment": {"CHOSEN_FOR_THE_WORKER": bad.name},
    }
    chosen = ("--extra-vars", json.dumps(environments))
    assert site.deploy(bad, *chosen, whole=True).status != 0, "the run is green"
    site.wait_until_gone(bad.name, 20)
    assert site.files(bad.name) == [f"{RELEASES}/{bad.name}"]

    for name in UNITS:
        site.machine.kill(name)
    site.wait_until_serving(serving.name, 30)

    for variables in (*map(site.machine.environment, UNITS), site.machine.environment_of_a_command()):
        assert "CELERIAC_RELEASE" in variables
        assert not {"CHOSEN_WITH", "CHOSEN_FOR_THE_WORKER"} & variables.keys()

    # With what serves, nothing else has changed.
    assert site.deploy(serving, *chosen, whole=True).status == 0
    for variables in (*map(site.machine.environment, UNITS), site.machine.environment_of_a_command()):
        assert variables["CHOSEN_WITH"] == bad.name


def test_no_answer_ever_came_from_a_bad_release(site: Site, light_load: Load) -> None:
    answered = {answer.release for answer in light_load.answers() if answer.release}

    assert answered
    # Every release that was deployed for good, by what the host noted of it.
    assert answered <= site.passed()


@only_in_full
def test_style_sheet_without_a_hash_changes_with_the_switch(site: Site, serving: Release) -> None:
    """Killed after a step, a run leaves what is served then; failed after one, it leaves what was.

    Behind the test of all answers: who is killed behind `readiness` leaves a release that answers.
    """
    new = site.make()
    for fault, serves in (("readiness:kill", serving), ("switch:kill", new), ("health", serving)):
        assert site.deploy(new, "--extra-vars", f"site_release_fault={fault}").status != 0

        answer = site.web.get("/static/app/site.css")

        assert answer.text == (serves.source / "app/static/app/site.css").read_text(), fault
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["ETag"]
