"""What a release goes through before it serves: each step succeeds, and fails on what it should."""

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from environment import postgresql_session
from testkit.waiting import comes_true

Result = subprocess.CompletedProcess[str]
ALL_STEPS = ["check", "import", "migrate", "note", "schema", "static", "admin"]


def prepare(environment: dict[str, str], *steps: str, **more: str) -> Result:
    """Run steps; keyword arguments are further variables of the environment."""
    return subprocess.run(
        [sys.executable, "-m", "celeriac.release", *steps],
        env={**environment, **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def lines(result: Result) -> dict[str, str]:
    """Return what was printed of each step."""
    return dict(line.split(": ", 1) for line in result.stdout.splitlines())


def refused(result: Result, step: str, why: str) -> bool:
    """Say whether a step failed and the operator sees why."""
    return (
        result.returncode == 1
        and list(lines(result))[-1] == step
        and lines(result)[step].startswith("failed after ")
        and why in result.stderr
    )


def test_a_good_release_passes_every_step(bare_environment: dict[str, str]) -> None:
    admin = {"CELERIAC_ADMIN_USERNAME": "ada", "CELERIAC_ADMIN_PASSWORD": "first"}
    result = prepare(bare_environment, *ALL_STEPS, **admin)
    assert result.returncode == 0, result.stderr
    assert list(lines(result)) == ["set-up", *ALL_STEPS]
    assert all(line.endswith(" s)") for line in lines(result).values())
    assert (Path(bare_environment["STATIC_ROOT"]) / "work" / "site.css").exists()
    assert "ada created" in lines(result)["admin"]
    with sqlite3.connect(bare_environment["SQLITE"]) as database:
        query = "SELECT username, is_superuser, password FROM auth_user"
        username, is_superuser, password = database.execute(query).fetchone()
    assert (username, is_superuser) == ("ada", 1)

    again = prepare(bare_environment, *ALL_STEPS, **{**admin, "CELERIAC_ADMIN_PASSWORD": "other"})
    assert again.returncode == 0, again.stderr
    assert "0 migrations applied" in lines(again)["migrate"]
    assert "ada is there already" in lines(again)["admin"]
    with sqlite3.connect(bare_environment["SQLITE"]) as database:
        assert database.execute(query).fetchall() == [("ada", 1, password)]


def test_a_password_is_changed_only_where_it_is_said_to_be_new(
    bare_environment: dict[str, str],
) -> None:
    def hash_after(**given: str) -> str:
        result = prepare(bare_environment, "migrate", "admin", CELERIAC_ADMIN_USERNAME="ada", **given)
        assert result.returncode == 0, result.stderr
        with sqlite3.connect(bare_environment["SQLITE"]) as database:
            [(password,)] = database.execute("SELECT password FROM auth_user")
        return str(password)

    first = hash_after(CELERIAC_ADMIN_PASSWORD="first")
    assert hash_after(CELERIAC_ADMIN_PASSWORD="other") == first
    assert hash_after(CELERIAC_ADMIN_PASSWORD="other", CELERIAC_ADMIN_PASSWORD_IS_NEW="yes") != first


@pytest.mark.parametrize("steps", [[], ["build"], ["check", "statics"]])
def test_an_unknown_step_is_refused_before_anything_is_done(bare_environment: dict[str, str], steps: list[str]) -> None:
    result = prepare(bare_environment, *steps)
    assert result.returncode == 2
    assert (
        "check import queues broker commands migrate note schema fits reversible reverse move_back static admin"
        in result.stderr
    )
    assert result.stdout == ""


def test_a_failed_check_stops_everything_after_it(bare_environment: dict[str, str]) -> None:
    insecure = json.dumps({"SECURE_HSTS_SECONDS": 0})
    result = prepare(bare_environment, "check", "migrate", MORE_SETTINGS=insecure)
    assert refused(result, "check", "security.W004")
    assert "Traceback" not in result.stderr
    assert not Path(bare_environment["SQLITE"]).exists()
    level = prepare(bare_environment, "check", MORE_SETTINGS=insecure, CELERIAC_CHECK_FAIL_LEVEL="ERROR")
    assert level.returncode == 0, level.stderr


@pytest.mark.parametrize(
    ("file", "source", "why"),
    [
        ("work/tasks.py", "import a_missing_library", "a_missing_library"),
        ("work/views.py", "import a_missing_library", "a_missing_library"),
        ("demo/wsgi.py", "import a_missing_library", "a_missing_library"),
        ("demo/celery.py", "import a_missing_library", "a_missing_library"),
        ("demo/urls.py", "handler500 = 'work.views.missing'", "missing"),
        ("demo/urls.py", "urlpatterns = [path('', include('work'))]", "does not appear to have"),
        (
            "demo/celery.py",
            "app.conf.beat_schedule = {'nightly': {'task': 'work.tasks.gone', 'schedule': 60}}",
            "'nightly' names the task 'work.tasks.gone'",
        ),
        (
            "demo/celery.py",
            "@app.on_after_finalize.connect\n"
            "def add(sender, **_):\n"
            "    sender.add_periodic_task(60, sender.signature('work.tasks.gone'), name='nightly')",
            "'nightly' names the task 'work.tasks.gone'",
        ),
    ],
    ids=[
        "task",
        "view",
        "wsgi",
        "celery",
        "error handler",
        "no urlpatterns",
        "beat_schedule",
        "periodic task",
    ],
)
def test_an_import_that_would_fail_later_fails_here(
    bare_environment: dict[str, str], project: Path, file: str, source: str, why: str
) -> None:
    with (project / file).open("a") as module:
        module.write(f"\n{source}\n")
    # Celery runs Django's checks too, which find some of this; a project can switch that off.
    result = prepare(bare_environment, "import", CELERY_SKIP_CHECKS="1")
    assert refused(result, "import", why)


def test_settings_that_cannot_be_imported_are_shown(bare_environment: dict[str, str], project: Path) -> None:
    (project / "demo" / "settings.py").write_text("import a_missing_library\n")
    assert refused(prepare(bare_environment, "check"), "set-up", "a_missing_library")


def test_all_variables_that_the_settings_ask_for_are_named_at_once(
    bare_environment: dict[str, str], project: Path
) -> None:
    """However they are asked for; not those that have a default."""
    settings = project / "demo" / "settings.py"
    settings.write_text(
        settings.read_text() + "import environ\n"
        "env = environ.Env()\n"
        "env('WITH_A_DEFAULT', default='')\n"
        "os.environ.get('NOBODY_NEEDS_IT')\n"
        "env('MAIL_URL')\n"
        "int(os.environ['MAIL_PORT'])\n"
        "env.bool('MAIL_TLS')\n"
        "if 'LICENCE' not in os.environ:\n"
        "    raise RuntimeError('LICENCE not found. Declare it as envvar or define a default value.')\n"
    )
    result = prepare(bare_environment, "check")
    assert refused(result, "set-up", "the settings ask for MAIL_URL, MAIL_PORT, MAIL_TLS, LICENCE, which")
    assert "site_environment: { MAIL_URL: …, MAIL_PORT: …, MAIL_TLS: …, LICENCE: … }" in result.stderr
    assert "Traceback" not in result.stderr


def test_findings_that_are_ignored_stop_nothing(bare_environment: dict[str, str]) -> None:
    insecure = json.dumps({"SECURE_HSTS_SECONDS": 0, "CSRF_COOKIE_SECURE": False})
    result = prepare(bare_environment, "check", MORE_SETTINGS=insecure, CELERIAC_CHECK_IGNORE="security.W004")
    assert refused(result, "check", "security.W016")
    assert "security.W004" not in result.stderr
    both = prepare(
        bare_environment, "check", MORE_SETTINGS=insecure, CELERIAC_CHECK_IGNORE="security.W004 security.W016"
    )
    assert both.returncode == 0, both.stderr


def test_other_commands_run_with_migrate_in_their_order(on_postgresql: dict[str, str]) -> None:
    commands = "migrate auth\ncreatecachetable another\nmigrate"
    result = prepare(on_postgresql, "migrate", CELERIAC_MIGRATE_COMMANDS=commands)
    assert result.returncode == 0, result.stderr
    some, made, rest = lines(result)["migrate"].partition(" (")[0].split(", ")
    assert made == "createcachetable done"
    assert "0 migrations applied" not in (some, rest)
    with postgresql_session(on_postgresql) as session:
        assert session.execute("SELECT count(*) FROM another").fetchone() == (0,)


def test_without_commands_nothing_is_migrated(bare_environment: dict[str, str]) -> None:
    assert prepare(bare_environment, "migrate", CELERIAC_MIGRATE_COMMANDS="").returncode == 0
    assert not Path(bare_environment["SQLITE"]).exists()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise ValueError('no such theme')", "no such theme"),
        ("self.stdout.write('no such theme'); raise SystemExit(3)", "manage.py themes ended with 3.\nno such theme"),
        ("import time; time.sleep(1000)", "themes did not end in 2 s (site_migrate_timeout_seconds) and was stopped"),
    ],
    ids=["error", "exit", "hangs"],
)
def test_another_command_that_fails_is_shown(
    bare_environment: dict[str, str], project: Path, body: str, why: str
) -> None:
    folder = project / "work/management/commands"
    folder.mkdir(parents=True)
    (folder / "themes.py").write_text(
        "from django.core.management import BaseCommand\n"
        f"class Command(BaseCommand):\n    def handle(self, **_):\n        {body}\n"
    )
    more = {"CELERIAC_MIGRATE_COMMANDS": "themes\nmigrate", "CELERIAC_MIGRATE_SECONDS": "2"}
    assert refused(prepare(bare_environment, "migrate", **more), "migrate", why)
    assert not Path(bare_environment["SQLITE"]).exists()


def test_a_schedule_of_existing_tasks_passes(bare_environment: dict[str, str], project: Path) -> None:
    entry = {"nightly": {"task": "work.tasks.sleep", "schedule": 60}}
    schedule = json.dumps({"CELERY_BEAT_SCHEDULE": entry})
    assert prepare(bare_environment, "import", MORE_SETTINGS=schedule).returncode == 0


def test_a_failed_migration_is_shown(bare_environment: dict[str, str], project: Path) -> None:
    add_migration(project, "migrations.RunSQL('INSERT INTO no_such_table VALUES (1)')")
    assert refused(prepare(bare_environment, "migrate"), "migrate", "no such table: no_such_table")


def test_more_is_made_of_the_static_files_once_they_are_collected(
    bare_environment: dict[str, str], project: Path
) -> None:
    """Where they are, by a command that sees them; one that fails stops the release."""
    folder = project / "work/management/commands"
    folder.mkdir(parents=True)
    (folder / "shorten.py").write_text(
        "from pathlib import Path\n"
        "from django.conf import settings\n"
        "from django.core.management import BaseCommand\n"
        "class Command(BaseCommand):\n"
        "    def add_arguments(self, parser):\n"
        "        parser.add_argument('path')\n"
        "    def handle(self, path, **_):\n"
        "        file = Path(settings.STATIC_ROOT, path)\n"
        "        file.with_suffix('.min.css').write_text(file.read_text()[:4])\n"
    )
    (project / "work/static/plain.css").write_text("body { color: black }")
    result = prepare(bare_environment, "static", CELERIAC_STATIC_COMMANDS="shorten plain.css")
    assert result.returncode == 0, result.stderr
    assert ", shorten done" in lines(result)["static"]
    assert Path(bare_environment["STATIC_ROOT"], "plain.min.css").read_text() == "body"
    failed = prepare(bare_environment, "static", CELERIAC_STATIC_COMMANDS="shorten no.css")
    assert refused(failed, "static", "This was manage.py shorten.")


def test_static_files_without_a_place_are_refused(bare_environment: dict[str, str]) -> None:
    del bare_environment["STATIC_ROOT"]
    assert refused(prepare(bare_environment, "static"), "static", "STATIC_ROOT")


@pytest.mark.parametrize("prefix", ["", "built"])
def test_what_vite_says_of_its_files_is_collected(
    bare_environment: dict[str, str], tmp_path: Path, prefix: str
) -> None:
    """And nothing else that begins with a dot; of two the first counts."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        for name in (".vite/manifest.json", "control/.vite/manifest.json", ".vite/.env", ".git/config", "main.js"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(folder.name)
    given = json.dumps({"STATICFILES_DIRS": [[prefix, str(each)] if prefix else str(each) for each in folders]})
    result = prepare(bare_environment, "static", MORE_SETTINGS=given)
    assert result.returncode == 0, result.stderr
    top = Path(bare_environment["STATIC_ROOT"]) / prefix
    hidden = {
        str(path.relative_to(top)): path.read_text()
        for path in top.rglob("*")
        if "/." in f"/{path.relative_to(top)}" and path.is_file()
    }
    assert hidden == {".vite/manifest.json": "first", "control/.vite/manifest.json": "first"}
    assert (top / "main.js").read_text() == "first"


def test_a_project_without_static_files_and_users_passes(bare_environment: dict[str, str], project: Path) -> None:
    more = {"CELERIAC_ADMIN_USERNAME": "ada", "CELERIAC_ADMIN_PASSWORD": "first"}
    apps = json.dumps({"INSTALLED_APPS": ["django_celery_beat", "django_celery_results", "work"]})
    result = prepare(bare_environment, "static", "admin", **more, MORE_SETTINGS=apps)
    assert result.returncode == 0, result.stderr
    assert "does not use django.contrib.staticfiles" in lines(result)["static"]
    assert "does not use django.contrib.auth" in lines(result)["admin"]


def test_an_admin_without_a_password_is_refused(bare_environment: dict[str, str], migrated: Path) -> None:
    shutil.copy(migrated, bare_environment["SQLITE"])
    result = prepare(bare_environment, "admin", CELERIAC_ADMIN_USERNAME="ada")
    assert refused(result, "admin", "the password is empty (vault_site_admin_password)")
    assert prepare(bare_environment, "admin").returncode == 0


def test_a_migration_does_not_wait_for_ever_behind_live_traffic(on_postgresql: dict[str, str], project: Path) -> None:
    assert prepare(on_postgresql, "migrate").returncode == 0
    add_migration(project, "migrations.RunSQL('ALTER TABLE work_note ADD COLUMN more text')")
    with postgresql_session(on_postgresql) as traffic, traffic.transaction():
        traffic.execute("SELECT * FROM work_note")
        # Without a timeout it would not return.
        result = prepare(on_postgresql, "migrate", CELERIAC_LOCK_TIMEOUT_SECONDS="1")
        assert refused(result, "migrate", "canceling statement due to lock timeout")
    assert prepare(on_postgresql, "migrate").returncode == 0


def test_two_hosts_migrate_one_after_the_other(on_postgresql: dict[str, str]) -> None:
    results: list[Result] = []
    hosts = [threading.Thread(target=lambda: results.append(prepare(on_postgresql, "migrate"))) for _ in range(2)]
    for host in hosts:
        host.start()
    for host in hosts:
        host.join()
    assert [result.returncode for result in results] == [0, 0], [r.stderr for r in results]
    applied = sorted(int(lines(result)["migrate"].split()[0]) for result in results)
    assert applied[0] == 0
    assert applied[1] > 40


def test_host_waits_longer_for_another_than_for_traffic(
    on_postgresql: dict[str, str],
) -> None:
    from celeriac.release.migrations import MIGRATION_LOCK

    with postgresql_session(on_postgresql) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        release = threading.Timer(3, lambda: other.execute("SELECT pg_advisory_unlock_all()"))
        release.start()
        result = prepare(on_postgresql, "migrate", CELERIAC_LOCK_TIMEOUT_SECONDS="1")
        release.join()
    assert result.returncode == 0, result.stderr


def test_a_failed_migration_is_named(bare_environment: dict[str, str], project: Path) -> None:
    add_migration(project, "migrations.RunSQL('INSERT INTO no_such_table VALUES (1)')")
    result = prepare(bare_environment, "migrate")
    assert refused(result, "migrate", "This was the migration work.0002_more.")
    assert result.stderr.rstrip().endswith("This was the migration work.0002_more.")
    command_error = "from django.core.management import CommandError as E\n"
    add_migration(project, "migrations.RunPython(refuse)", f"{command_error}{REFUSES}")
    result = prepare(bare_environment, "migrate")
    assert refused(result, "migrate", "not today\nThis was the migration work.0002_more.")


REFUSES = """
def refuse(apps, schema_editor):
    raise E("not today")
"""

# Each hangs in another way: in the server, with and without its own bound, and in Python.
HANGS = {
    "server": "schema_editor.execute('SELECT pg_sleep(1000)')",
    "unbounded": "schema_editor.execute('SET statement_timeout = 0; SELECT pg_sleep(1000)')",
    "python": "time.sleep(1000)",
    "retries": "\n".join(
        [
            "",
            "    while True:",
            "        try:",
            "            time.sleep(1)",
            "        except Exception:",
            "            pass",
        ]
    ),
}


@pytest.mark.parametrize("how", HANGS)
def test_a_migration_that_hangs_is_ended(on_postgresql: dict[str, str], project: Path, how: str) -> None:
    assert prepare(on_postgresql, "migrate").returncode == 0
    add_migration(
        project,
        "migrations.RunSQL('ALTER TABLE work_note ADD COLUMN more text'), migrations.RunPython(hang)",
        f"import time\ndef hang(apps, schema_editor):\n    {HANGS[how]}\n",
    )
    result = prepare(on_postgresql, "migrate", CELERIAC_MIGRATE_SECONDS="2")
    why = "work.0002_more did not end in 2 s (site_migrate_timeout_seconds) and was stopped; was rolled"
    assert refused(result, "migrate", why)
    assert "Traceback" not in result.stderr
    with postgresql_session(on_postgresql) as session:
        session.execute("SET lock_timeout = '5s'")
        session.execute("ALTER TABLE work_note ADD COLUMN more text")  # it is not there


def test_a_statement_ends_though_nobody_is_left_to_cancel_it(on_postgresql: dict[str, str], project: Path) -> None:
    assert prepare(on_postgresql, "migrate").returncode == 0
    add_migration(project, "migrations.RunSQL('SELECT pg_sleep(1000)')")
    command = [sys.executable, "-m", "celeriac.release", "migrate"]
    query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1000)%'"
    query += " AND pid <> pg_backend_pid()"

    def asleep() -> bool:
        row = session.execute(query).fetchone()
        return row == (1,)

    with (
        subprocess.Popen(command, env=on_postgresql) as process,  # which may take ten minutes
        postgresql_session(on_postgresql) as session,
    ):
        assert comes_true(asleep)
        process.kill()
        process.wait()
        assert comes_true(lambda: not asleep())


def test_a_host_does_not_wait_for_another_for_ever(on_postgresql: dict[str, str]) -> None:
    from celeriac.release.migrations import MIGRATION_LOCK

    with postgresql_session(on_postgresql) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        result = prepare(on_postgresql, "migrate", CELERIAC_MIGRATE_SECONDS="1")
    assert refused(result, "migrate", "another host has been migrating for 1 s")


def test_a_release_that_does_not_know_a_migration_is_refused(bare_environment: dict[str, str], project: Path) -> None:
    assert prepare(bare_environment, "schema").returncode == 0  # an empty database fits them all
    add_migration(project, "migrations.RunSQL('SELECT 1', 'SELECT 1')")
    later = project / "later" / "migrations"
    later.mkdir(parents=True)
    (later.parent / "__init__.py").touch()
    (later / "__init__.py").touch()
    (later / "0001_initial.py").write_text(MIGRATION.format([], "", "", ""))
    settings = project / "demo" / "settings.py"
    before = settings.read_text()
    settings.write_text(f"{before}INSTALLED_APPS.append('later')\n")
    result = prepare(bare_environment, "migrate", "schema")
    assert result.returncode == 0, result.stderr
    assert "applied migrations are known to this release" in lines(result)["schema"]
    settings.write_text(before)
    (project / "work" / "migrations" / "0002_more.py").unlink()
    result = prepare(bare_environment, "schema")
    assert refused(result, "schema", "  later.0001_initial\n  work.0002_more\n")
    assert "  site-manage migrate later zero\n" in result.stderr
    assert "  site-manage migrate work 0001_initial\n" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_release_notes_all_migrations_that_it_knows(bare_environment: dict[str, str], project: Path) -> None:
    add_migration(project, "migrations.RunSQL('SELECT 1', 'SELECT 1')")
    replaces = "replaces = [('gone', '0001_initial'), ('gone', '0002_more')]"
    squash = project / "work" / "migrations" / "0003_squashed.py"
    squash.write_text(MIGRATION.format([("work", "0002_more")], "", replaces, ""))
    result = prepare(bare_environment, "note")
    assert result.returncode == 0, result.stderr
    noted = json.loads(Path(bare_environment["CELERIAC_MIGRATIONS_FILE"]).read_text())
    assert {"work.0001_initial", "work.0002_more", "work.0003_squashed"} <= set(noted)
    assert {"gone.0001_initial", "gone.0002_more"} <= set(noted)
    assert "auth.0001_initial" in noted


@pytest.mark.parametrize("kept", [True, False], ids=["before", "after the old files went"])
def test_a_squash_stands_in_nobodys_way(bare_environment: dict[str, str], project: Path, kept: bool) -> None:
    migrations = project / "work" / "migrations"
    add_migration(project, "migrations.RunSQL('SELECT 1', 'SELECT 1')")
    assert prepare(bare_environment, "migrate").returncode == 0
    replaces = "replaces = [('work', '0001_initial'), ('work', '0002_more')]"
    squash = migrations / "0001_squashed_0002_more.py"
    squash.write_text(MIGRATION.format([], "migrations.RunSQL('SELECT 1')", replaces, ""))
    if not kept:
        (migrations / "0001_initial.py").unlink()
        (migrations / "0002_more.py").unlink()
    result = prepare(bare_environment, "migrate", "schema")
    assert result.returncode == 0, result.stderr
    if kept:
        squash.unlink()  # which the database has noted by now: back to the release before it
        result = prepare(bare_environment, "schema")
        assert result.returncode == 0, result.stderr


MIGRATION = """
from django.db import migrations
{3}
class Migration(migrations.Migration):
    dependencies = {0}
    operations = [{1}]
    {2}
"""


def add_migration(project: Path, operations: str, module: str = "") -> None:
    """Give the test project a second migration; the text of a module may come before it."""
    (project / "work" / "migrations" / "0002_more.py").write_text(
        MIGRATION.format([("work", "0001_initial")], operations, "", module)
    )


ROUTED = '{"CELERY_TASK_ROUTES": {"work.tasks.sleep": {"queue": "mail"}}}'


def reading(*pools: str, plain: list[str] | None = None, others: list[str] | None = None) -> dict[str, str]:
    """Return what workers read: a pool of each name, which reads the queue of that name, beside the plain worker."""
    chosen = [{"key": name, "value": {"queues": [name]}} for name in pools]
    return {"CELERIAC_WORKER_QUEUES": json.dumps({"plain": [plain or []], "pools": chosen, "others": others or []})}


@pytest.mark.parametrize(
    ("settings", "chosen"),
    [
        (ROUTED, reading()),  # the operator has not chosen who reads what
        (ROUTED, reading("mail")),
        (ROUTED, reading(plain=["celery", "mail"])),
        (ROUTED, reading("reports", others=["mail", "reports"])),
        # Some code of the project has its name, and may send there by hand.
        ("{}", reading("work.nothing")),
        ('{"CELERY_TASK_ROUTES": "work.views.route"}', reading("reports")),
    ],
)
def test_queues_that_are_read_and_fed_pass(
    bare_environment: dict[str, str], project: Path, settings: str, chosen: dict[str, str]
) -> None:
    (project / "sends.py").write_text('QUEUE = "work.nothing"\n')
    result = prepare(bare_environment, "queues", MORE_SETTINGS=settings, **chosen)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("settings", "chosen", "why"),
    [
        (ROUTED, reading("reports", others=["reports"]), "'work.tasks.sleep' in task_routes sends to the queue mail"),
        (ROUTED, reading(plain=["celery"]), "celery_worker_pools: { mail: { queues: [mail] } }"),
        (ROUTED, reading("mail", plain=["mail"]), "default (task_default_queue) sends to the queue celery"),
        (ROUTED, reading("mail", "mial"), "The pool mial reads the queue mial, and nothing of the project sends to it"),
        (
            '{"CELERY_BEAT_SCHEDULE": {"nightly": {"task": "work.tasks.sleep", "schedule": 60, "options": '
            '{"queue": "night"}}}}',
            reading("night", "day", others=["day"], plain=["celery"]),
            "",
        ),
    ],
)
def test_a_queue_that_nobody_reads_or_feeds_is_refused(
    bare_environment: dict[str, str],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: str,
    chosen: dict[str, str],
    why: str,
) -> None:
    monkeypatch.chdir(project)
    result = prepare(bare_environment, "queues", MORE_SETTINGS=settings, **chosen)
    if why:
        assert refused(result, "queues", why), result.stderr
    else:
        assert result.returncode == 0, result.stderr
        chosen = {"CELERIAC_WORKER_QUEUES": chosen["CELERIAC_WORKER_QUEUES"].replace('"night"', '"day"')}
        assert refused(prepare(bare_environment, "queues", MORE_SETTINGS=settings, **chosen), "queues", "'nightly'")


def test_an_entry_of_the_schedule_needs_a_worker_too(bare_environment: dict[str, str]) -> None:
    assert prepare(bare_environment, "migrate").returncode == 0
    with sqlite3.connect(bare_environment["SQLITE"]) as database:
        database.execute("INSERT INTO django_celery_beat_intervalschedule VALUES (1, 1, 'days')")
        columns = {
            row[1]: (row[2], row[3]) for row in database.execute("PRAGMA table_info(django_celery_beat_periodictask)")
        }
        values = {
            name: "" if kind.startswith(("varchar", "text")) else 0
            for name, (kind, needed) in columns.items()
            if needed
        }
        values |= {"id": 1, "name": "daily", "task": "work.tasks.sleep", "enabled": 1, "queue": "day", "interval_id": 1}
        places = ", ".join("?" for _ in values)
        database.execute(
            f"INSERT INTO django_celery_beat_periodictask ({', '.join(values)}) VALUES ({places})", [*values.values()]
        )
    assert refused(
        prepare(bare_environment, "queues", **reading(plain=["celery"])), "queues", "The periodic task 'daily'"
    )
    assert prepare(bare_environment, "queues", **reading("day")).returncode == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"command": ["migrate", "--plan"]}, ""),
        ({"program": ["python", "-m", "work"]}, ""),
        ({"command": ["migrat"]}, "site_timers: a is manage.py migrat, and the project has no such command (migrate"),
        ({"program": ["no-such-program"]}, "the virtualenv of the release has none of this name"),
    ],
)
def test_a_command_that_is_not_there_is_refused(
    bare_environment: dict[str, str], words: dict[str, list[str]], why: str
) -> None:
    result = prepare(bare_environment, "commands", CELERIAC_CHOSEN_COMMANDS=json.dumps({"site_timers: a": words}))
    assert refused(result, "commands", why) if why else result.returncode == 0, result.stderr
