"""Migrations that would stop or break the release that serves are refused before they touch the database."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django import VERSION
from environment import empty_database, postgresql_session
from test_release import Result, lines, prepare, refused
from testkit.postgresql import PostgreSQL

HEAD = """
import django
import django.contrib.postgres.operations as postgres
from django.db import migrations, models
def first():
    from django.db import connection
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM work_note LIMIT 1")
        return cursor.fetchone()[0]
CONDITION = "condition" if django.VERSION >= (5, 1) else "check"
def fill(apps, schema_editor):
    Note = apps.get_model("work", "Note")
    Note.objects.get(pk=1)
"""
MIGRATION = (
    HEAD
    + """
class Migration(migrations.Migration):
    atomic = {atomic}
    dependencies = [("work", "{after}")]
    operations = [{operations}]
"""
)
# As many as make it hurt where the figures are wanted.
MANY, LIMIT = (1_000_000, 100_000) if os.environ.get("CELERIAC_FULL") else (150, 100)


def migration(project: Path, operations: str, number: int = 2, *, atomic: bool = True) -> None:
    """Add a migration to the project."""
    folder = project / "work/migrations"
    after = sorted(folder.glob("0*.py"))[-1].stem
    text = MIGRATION.format(operations=operations, after=after, atomic=atomic)
    (folder / f"000{number}_more.py").write_text(text)


@pytest.fixture
def database(bare_environment: dict[str, str], postgresql: PostgreSQL, migrated_on_postgresql: str) -> dict[str, str]:
    """An environment with a database of the release that serves, and one to rehearse in."""
    rehearsal = empty_database(postgresql, f"{Path(bare_environment['SCRATCH']).name}-rehearsal")["PGDATABASE"]
    own = empty_database(postgresql, Path(bare_environment["SCRATCH"]).name, migrated_on_postgresql)
    more = {"CELERIAC_REHEARSAL_DATABASE": rehearsal, "CELERIAC_MIGRATE_ROWS": str(LIMIT)}
    return {**bare_environment, **own, **more}


@pytest.fixture
def session(database: dict[str, str]) -> Iterator[psycopg.Connection]:
    """An onlooker, and a table with many rows."""
    with postgresql_session(database) as found:
        found.execute("INSERT INTO work_note (text) SELECT 'x' FROM generate_series(1, %s)", [MANY])
        yield found


ADD = 'migrations.AddField("note", "more", {})'
ALTER = 'migrations.AlterField("note", "text", {})'
SQL = "migrations.RunSQL({!r}, migrations.RunSQL.noop)"
MADE = 'migrations.CreateModel("Other", [("id", models.AutoField(primary_key=True)), ("text", models.TextField())])'
# What hurts, by the words that say how.
HURTS = {
    "a default that is another for each row": (
        ADD.format("models.DateTimeField(null=True)")
        + ", "
        + SQL.format("ALTER TABLE work_note ADD COLUMN token uuid DEFAULT gen_random_uuid()"),
        "writes work_note anew",
    ),
    "a type that is written otherwise": (
        SQL.format("ALTER TABLE work_note ALTER COLUMN text TYPE bytea USING text::bytea"),
        "writes work_note anew",
    ),
    "a shorter text": (ALTER.format("models.CharField(max_length=10)"), "writes work_note anew"),
    "an index": (
        'migrations.AddIndex("note", models.Index(fields=["text"], name="by_text"))',
        "reads all of work_note, and whoever writes to it waits",
    ),
    "unique": (ALTER.format("models.CharField(max_length=80, unique=True)"), "reads all of work_note"),
    "a check": (
        'migrations.AddConstraint("note", models.CheckConstraint(**{CONDITION: ~models.Q(text="")}, name="text"))',
        "reads all of work_note",
    ),
    "a reference": (
        MADE
        + ", "
        + ADD.format('models.ForeignKey("Other", models.CASCADE, null=True, db_index=False)')
        + ", "
        + SQL.format("ALTER TABLE work_note ADD CONSTRAINT own FOREIGN KEY (id) REFERENCES work_note (id)"),
        "reads all of work_note",
    ),
    "a value that the serving release does not give": (
        ADD.format('models.CharField(max_length=9, default="")'),
        "wants a value in work_note.more, which the release that serves does not know",
    ),
    "a column that is dropped": ('migrations.RemoveField("note", "text")', "drops work_note.text, which"),
    "a column that is renamed": ('migrations.RenameField("note", "text", "words")', "renames work_note.text, which"),
    "a table that is dropped": ('migrations.DeleteModel("Note")', "drops work_note, which"),
    "a table that is renamed": ('migrations.RenameModel("Note", "Text")', "renames work_note, which"),
    "a column that is dropped by hand": (SQL.format("ALTER TABLE work_note DROP COLUMN text"), "drops work_note.text"),
}
HARMLESS = {
    "a reference to a row that is not on the copy": (
        ADD.format(
            "models.ForeignKey('Note', models.CASCADE, null=True, default=first, db_index=False, db_constraint=False)"
        )
    ),
    "a default of the database by hand": SQL.format("ALTER TABLE work_note ADD COLUMN more int NOT NULL DEFAULT 0"),
    "a column that may be empty": ADD.format("models.TextField(null=True)"),
    **({"a default of the database": ADD.format("models.IntegerField(db_default=0)")} if VERSION >= (5, 0) else {}),
    "a longer text": ALTER.format("models.CharField(max_length=200)"),
    "nothing for the database": ALTER.format('models.CharField(max_length=80, help_text="A line")'),
    "a new table, indexed, filled and changed": (
        f"{MADE}, migrations.AddIndex('Other', models.Index(fields=['text'], name='others')),"
        "migrations.AlterField('Other', 'text', models.CharField(max_length=9)),"
        "migrations.RemoveField('Other', 'text')"
    ),
    "rows that are not on the copy": "migrations.RunPython(fill, migrations.RunPython.noop)",
    "a field that only the code has no more": (
        'migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField("note", "text")])'
    ),
    "a name that is given back": (
        'migrations.RenameField("note", "text", "words"), migrations.RenameField("note", "words", "text")'
    ),
}


@pytest.mark.parametrize("case", HURTS)
def test_what_hurts_is_refused_with_its_statement_and_nothing_is_migrated(
    database: dict[str, str], project: Path, session: psycopg.Connection, case: str
) -> None:
    operations, words = HURTS[case]
    migration(project, operations)

    result = prepare(database, "migrate")

    assert refused(result, "migrate", words), result.stdout + result.stderr
    assert "work.0002_more: " in result.stderr
    assert f"(more than {LIMIT} rows)" in result.stderr
    assert "-e site_migrate=maintenance" in result.stderr
    assert session.execute("SELECT count(*) FROM django_migrations WHERE name = '0002_more'").fetchone() == (0,)
    assert session.execute("SELECT count(*) FROM work_note").fetchone() == (MANY,)


@pytest.mark.parametrize("case", HARMLESS)
def test_what_does_not_hurt_is_migrated_without_a_word(
    database: dict[str, str], project: Path, session: psycopg.Connection, case: str
) -> None:
    migration(project, HARMLESS[case])

    result = prepare(database, "migrate")

    assert result.returncode == 0, result.stderr
    assert lines(result)["migrate"].startswith("1 migrations applied")


def test_an_index_beside_all_writers_is_migrated(
    database: dict[str, str], project: Path, session: psycopg.Connection
) -> None:
    index = 'postgres.AddIndexConcurrently("note", models.Index(fields=["text"], name="by_text"))'
    migration(project, index, atomic=False)

    result = prepare(database, "migrate")

    assert result.returncode == 0, result.stderr


def test_what_takes_long_only_with_many_rows_is_migrated_where_there_are_few(
    database: dict[str, str], project: Path, session: psycopg.Connection
) -> None:
    session.execute("DELETE FROM work_note WHERE id > (SELECT min(id) + 50 FROM work_note)")
    migration(project, HURTS["an index"][0])

    result = prepare(database, "migrate")

    assert result.returncode == 0, result.stderr


def test_a_column_that_an_earlier_release_has_let_go_of_is_dropped(
    database: dict[str, str], project: Path, session: psycopg.Connection
) -> None:
    migration(project, HARMLESS["a field that only the code has no more"])
    assert prepare(database, "migrate").returncode == 0
    migration(project, SQL.format("ALTER TABLE work_note DROP COLUMN text"), 3)

    result = prepare(database, "migrate")

    assert result.returncode == 0, result.stderr


def test_a_migration_that_fails_fails_on_the_copy(
    database: dict[str, str], project: Path, session: psycopg.Connection
) -> None:
    migration(project, SQL.format("ALTER TABLE work_note ADD COLUMN one int; SELECT no_such_function()"), atomic=False)

    result = prepare(database, "migrate")

    assert refused(result, "migrate", "no_such_function"), result.stderr
    assert "This was the migration work.0002_more, on a copy of the schema without a row." in result.stderr
    columns = session.execute("SELECT column_name FROM information_schema.columns WHERE table_name = 'work_note'")
    assert {name for (name,) in columns} == {"id", "text"}


def test_a_rehearsal_that_does_not_end_is_ended(
    database: dict[str, str], project: Path, session: psycopg.Connection
) -> None:
    migration(project, SQL.format("SELECT pg_sleep(3600)"))

    result = prepare(database, "migrate", CELERIAC_MIGRATE_SECONDS="5")

    assert refused(result, "migrate", "rehearsal did not end in 5 s (site_migrate_timeout_seconds)"), result.stderr
    assert session.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'").fetchone() == (
        0,
    )


def test_the_database_itself_is_never_the_copy(
    database: dict[str, str], project: Path, session: psycopg.Connection
) -> None:
    migration(project, HARMLESS["a column that may be empty"])

    result = prepare(database, "migrate", CELERIAC_REHEARSAL_DATABASE=database["PGDATABASE"])

    assert refused(result, "migrate", "it is the database itself")
    assert session.execute("SELECT count(*) FROM work_note").fetchone() == (MANY,)


def test_a_release_that_migrates_nothing_asks_for_no_copy(database: dict[str, str]) -> None:
    result = prepare(database, "migrate", CELERIAC_REHEARSAL_DATABASE="not-there", PATH="/nowhere")

    assert result.returncode == 0, result.stderr


def test_without_the_database_it_says_what_makes_it(
    database: dict[str, str], project: Path, session: psycopg.Connection
) -> None:
    migration(project, HARMLESS["a column that may be empty"])

    result = prepare(database, "migrate", CELERIAC_REHEARSAL_DATABASE="not-there")

    assert refused(result, "migrate", "playbooks/datastores.yml")


def taken_back(environment: dict[str, str], *steps: str) -> Result:
    """Ask for the way back to a release that knows the first migration of the project alone."""
    file = Path(environment["SCRATCH"]) / "known.json"
    result = prepare(environment, "note")
    assert result.returncode == 0, result.stderr
    known = json.loads(Path(environment["CELERIAC_MIGRATIONS_FILE"]).read_text())
    file.write_text(
        json.dumps([name for name in known if not name.startswith("work.000") or name == "work.0001_initial"])
    )
    return prepare(environment, *steps, CELERIAC_KNOWN_MIGRATIONS=str(file))


def test_migrations_that_an_older_release_does_not_know_are_taken_back(
    database: dict[str, str], project: Path, session: psycopg.Connection
) -> None:
    migration(project, MADE)
    migration(project, ADD.format("models.IntegerField(null=True, default=0)"), 3)
    assert prepare(database, "migrate").returncode == 0

    result = taken_back(database, "reversible", "reverse")

    assert result.returncode == 0, result.stderr
    assert (
        f"  work.0003_more: work_note.more of {MANY} rows\n  work.0002_more: the 0 rows of work_other" in result.stdout
    )
    assert "2 migrations taken back" in result.stdout
    names = session.execute("SELECT name FROM django_migrations WHERE app = 'work'").fetchall()
    assert names == [("0001_initial",)]
    assert session.execute("SELECT to_regclass('work_other')").fetchone() == (None,)


def test_over_what_cannot_be_taken_back_there_is_no_way(
    database: dict[str, str], project: Path, session: psycopg.Connection
) -> None:
    migration(project, "migrations.RunPython(fill)")
    migration(project, ADD.format("models.TextField(null=True)"), 3)
    assert prepare(database, "migrate").returncode == 0

    result = taken_back(database, "reversible", "reverse")

    assert refused(result, "reversible", "  work.0002_more: Raw Python operation"), result.stderr
    assert session.execute("SELECT count(*) FROM django_migrations WHERE app = 'work'").fetchone() == (3,)


def with_a_point(environment: dict[str, str], **more: str) -> tuple[Result, Path]:
    """Migrate behind a restore point, on a server whose log goes to no repository."""
    file = Path(environment["SCRATCH"]) / "restore-point.json"
    point = {"CELERIAC_RESTORE_POINT": "before-1-20270131T120000Z", "CELERIAC_RESTORE_POINT_FILE": str(file)}
    return prepare(environment, "migrate", **point, **more), file


def test_the_moment_before_the_migrations_is_noted_with_what_was_written_until_then(
    database: dict[str, str], project: Path, session: psycopg.Connection
) -> None:
    session.execute("SELECT pg_stat_force_next_flush()")
    migration(project, ADD.format("models.IntegerField(null=True)"))

    result, file = with_a_point(database, CELERIAC_WAY_BACK="yes")

    assert result.returncode == 0, result.stderr
    assert "behind the restore point before-1-20270131T120000Z, but what is written" in lines(result)["migrate"]
    point = json.loads(file.read_text())
    assert point["migrations"] == ["work.0002_more"]
    assert point["written"]["public.work_note"][0] == MANY
    assert point["why"] == "what is written to the database goes to no repository"


def test_a_release_that_migrates_nothing_makes_no_restore_point(database: dict[str, str]) -> None:
    result, file = with_a_point(database)

    assert result.returncode == 0, result.stderr
    assert not file.exists()


@pytest.mark.parametrize("way_back", ["yes", ""])
def test_what_cannot_be_taken_back_is_not_begun_where_the_repository_has_no_way_back(
    database: dict[str, str], project: Path, session: psycopg.Connection, way_back: str
) -> None:
    migration(project, "migrations.RunPython(fill)")
    session.execute("UPDATE work_note SET id = 1 WHERE id = (SELECT min(id) FROM work_note)")

    result, file = with_a_point(database, CELERIAC_WAY_BACK=way_back)

    if way_back:
        assert refused(result, "migrate", "there would be no way back: what is written"), result.stderr
        assert "  work.0002_more: Raw Python operation" in result.stderr
    else:
        assert result.returncode == 0, result.stderr
    assert file.exists() is not bool(way_back)
    names = session.execute("SELECT name FROM django_migrations WHERE app = 'work'").fetchall()
    assert (("0002_more",) in names) is not bool(way_back)


def test_a_release_says_in_what_a_database_is_not_its_own(
    database: dict[str, str], project: Path, session: psycopg.Connection
) -> None:
    assert prepare(database, "fits").returncode == 0
    migration(project, ADD.format("models.IntegerField(null=True)"))
    session.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('work', '0009_later', now())")

    result = prepare(database, "fits")

    assert refused(
        result, "fits", "the database is not the one of this release: it lacks work.0002_more; it has work.0009"
    )
