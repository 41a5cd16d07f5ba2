"""The commands of the notes, word for word, in the site's folder.

The fixture `stack` starts with `python3 manage.py migrate`, `celery -A TimeOut worker
--loglevel=debug --concurrency=4` and `celery -A TimeOut beat`.
"""

from processes import SITE, Stack, run


def test_celery_starts_without_the_entry_point_error() -> None:
    """With the versions of the notes every celery command died of 'EntryPoint' has no attribute."""
    for command in (("celery", "--version"), ("celery", "-A", "TimeOut", "report")):
        result = run(*command)
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith(("5.", "\nsoftware -> celery:5."))
        assert "EntryPoint" not in result.stdout + result.stderr


def test_nothing_needs_to_be_set_on_a_developers_computer() -> None:
    """The defaults are those of the notes: Redis on 127.0.0.1:6379, SQLite, no log-in."""
    code = (
        "from TimeOut.celery import app; from django.conf import settings as s;"
        "print(app.conf.broker_url, s.DEBUG, s.DATABASES['default']['ENGINE'])"
    )
    result = run("python3", "-c", code)
    assert result.stdout.split() == [
        "redis://127.0.0.1:6379/0",
        "True",
        "django.db.backends.sqlite3",
    ], result.stderr


def test_migrate_makes_the_tables_of_beat_and_of_the_results(stack: Stack) -> None:
    """The migrations that the notes list are applied."""
    assert "Applying django_celery_beat.0001_initial... OK" in stack.migrated
    assert "Applying django_celery_beat.0015_edit_solarschedule_events_choices... OK" in stack.migrated
    assert "Applying django_celery_results.0001_initial... OK" in stack.migrated
    assert "Applying app.0001_initial... OK" in stack.migrated


def test_the_models_and_their_migrations_agree() -> None:
    """A change of a model without its migration would fail on a host, not here."""
    command = ("python3", "manage.py", "makemigrations", "--check", "--dry-run")
    assert run(*command, DATABASE_URL="sqlite://:memory:").returncode == 0


def test_the_worker_has_four_processes_and_knows_both_tasks(stack: Stack) -> None:
    """The options on the command line count, and tasks are found by themselves."""
    log = stack.log("worker")
    assert "concurrency: 4 (prefork)" in log
    assert ". app.tasks.add\n" in log
    assert ". app.tasks.post_counter_update\n" in log


def test_a_worker_at_log_level_debug_shows_what_happens_to_a_task(stack: Stack) -> None:
    """The project's own log settings do not silence `--loglevel=debug`, nor double its lines."""
    lines = [line for line in stack.log("worker").splitlines() if line.endswith(" ready.")]
    assert len(lines) == 1
    assert " DEBUG " in stack.log("worker")


def test_the_folder_never_becomes_a_package() -> None:
    """The standard library owns the name `site`."""
    assert not (SITE / "__init__.py").exists()
