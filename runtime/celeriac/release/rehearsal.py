"""Migrations are rehearsed before they touch the database, on a copy of its schema without a row.

PostgreSQL itself says what each statement does: which tables it writes anew, and which it keeps others from writing to
while it reads all their rows. No list of dangerous statements is kept here, and on an empty copy none takes long.
What the copy has lost in the end, and what it wants in addition, is compared with what the release that serves uses.

What a ``RunPython`` does is not known: without rows it would fail where it does well, and it may send e-mails. It is
left out.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from django.core.management import CommandError
from django.db import connection, connections, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.postgresql.client import DatabaseClient
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations import RunPython
from django.db.migrations.state import ProjectState

from celeriac.postgresql import own_session

# A table with fewer rows is written anew, or read, before anybody notices.
ROWS = 100_000
# How long the copy of the schema waits for a migration of somebody else's.
DUMP_WAIT = "10s"
STATEMENT_SHOWN = 200

# What is there, in schemas of the project, at a moment of a transaction. Whatever writes to a table waits for one of
# these locks (https://www.postgresql.org/docs/current/explicit-locking.html).
_TABLES = """
SELECT relation.oid, relation.oid::regclass::text, relation.relname, pg_relation_filenode(relation.oid),
    coalesce((SELECT seq_scan FROM pg_stat_xact_all_tables WHERE relid = relation.oid), 0),
    EXISTS (
        SELECT FROM pg_locks
        WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted AND pg_locks.relation = relation.oid
        AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    )
FROM pg_class AS relation
WHERE relkind IN ('r', 'p', 'm')
AND relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_|^information_schema$')
"""
_COLUMNS = """
SELECT attrelid, attnum, attname, attnotnull, atthasdef OR attidentity <> '' OR attgenerated <> ''
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p')
AND relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_|^information_schema$')
"""
# All that the owner of a database may have made in it, but for what came with it.
_EMPTIED = """
DO $$ DECLARE name text; BEGIN
FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$'
LOOP EXECUTE format('DROP SCHEMA %I CASCADE', name); END LOOP; END $$;
CREATE SCHEMA public;
"""
_ASKS = re.compile(r"\s*(SELECT|SHOW|SET|SAVEPOINT|RELEASE|ROLLBACK|EXPLAIN)\b", re.IGNORECASE)
_ALONE = re.compile(r"\bCONCURRENTLY\b", re.IGNORECASE)

Migration = Any  # of Django, which is not typed
Plan = Sequence[tuple[Migration, bool]]


@dataclass(frozen=True)
class Table:
    """A table of the copy at a moment.

    Attributes:
        shown: its name, with the schema where that is needed.
        name: its name.
        file: where its rows are; another one after they were written anew.
        scans: how often its rows were all read in this transaction.
        locked: whether this transaction keeps others from writing to it.
    """

    shown: str
    name: str
    file: int | None
    scans: int
    locked: bool


@dataclass(frozen=True)
class Column:
    """A column of the copy at a moment.

    Attributes:
        name: its name.
        not_null: whether it wants a value.
        default: whether it gets one by itself.
    """

    name: str
    not_null: bool
    default: bool


@dataclass(frozen=True)
class Finding:
    """What a migration does that hurts.

    Attributes:
        migration: its name, with that of its app.
        statement: what it does it with.
        table: to which table, as it was called before.
        what: the rest of a sentence that begins with the statement.
        by_rows: whether it only hurts where the table has many.
    """

    migration: str
    statement: str
    table: str
    what: str
    by_rows: bool


def refuse_what_hurts(plan: Plan) -> None:
    """Rehearse a plan, and refuse what would stop or break the release that serves.

    ``CELERIAC_REHEARSAL_DATABASE`` is a database that may be emptied; where there is none, nothing is done.
    ``CELERIAC_MIGRATE_ROWS`` says from how many rows on a table is a big one.

    Args:
        plan: what is to be migrated, as an executor has it.

    Raises:
        CommandError: a migration would hurt; or it cannot be rehearsed, and then it could not be applied either.
    """
    name = os.environ.get("CELERIAC_REHEARSAL_DATABASE", "")
    if not name or not plan or connection.vendor != "postgresql":
        return
    limit = int(os.environ.get("CELERIAC_MIGRATE_ROWS") or ROWS)
    loader = MigrationExecutor(connection).loader
    before = loader.project_state([node for node in loader.applied_migrations if node in loader.graph.nodes])
    found = []
    for each in rehearsed(plan, before, name):
        rows = rows_of(each.table, limit)
        if not each.by_rows or rows > limit:
            found.append(f"  {each.migration}: {each.statement}\n    {each.what} ({shown_rows(rows, limit)})")
    if found:
        raise CommandError(
            "\n".join(
                [
                    "the release that serves would stand still, or break, while this one migrates:",
                    *found,
                    "Nothing was migrated. Ways out:",
                    "  two releases: add what is new first, and let go of what is old in the release after that one;",
                    "  `-e site_migrate=maintenance`: people wait and workers are paused until it is over;",
                    "  `-e site_migrate=unguarded`: as it is, where nobody will notice.",
                ]
            )
        )


def rows_of(table: str, limit: int) -> int:
    """Return how many rows a table of the real database has, or one more than the limit where it has more."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [table])
        if not cursor.fetchone()[0]:
            return 0
        # The name is as PostgreSQL has quoted it.
        cursor.execute(f"SELECT count(*) FROM (SELECT FROM {table} LIMIT %s) AS first", [limit + 1])
        return int(cursor.fetchone()[0])


def shown_rows(rows: int, limit: int) -> str:
    """Return how many rows there are, in words."""
    return f"more than {limit} rows" if rows > limit else "1 row" if rows == 1 else f"{rows} rows"


def rehearsed(plan: Plan, before: ProjectState, name: str) -> list[Finding]:
    """Apply a plan to an empty copy of the schema, and return what it does that may hurt.

    Args:
        plan: what is to be migrated.
        before: the models that the release that serves has; they are changed.
        name: of a database that may be emptied.
    """
    real: Any = connections["default"]
    copy_schema(real.settings_dict, name)
    used = {
        model._meta.db_table: {field.column for field in model._meta.local_concrete_fields}
        for model in before.apps.get_models(include_auto_created=True)
    }
    scratch = own_session("default")
    scratch.settings_dict["NAME"] = name
    connections["default"] = scratch  # whatever a migration asks, it asks the copy
    try:
        scratch.ensure_connection()
        watch = _Watch(scratch, used)
        with (
            patch.object(RunPython, "database_forwards", lambda *_: None),
            patch.object(BaseDatabaseSchemaEditor, "_effective_default", staticmethod(_default_without_rows)),
            scratch.execute_wrapper(watch),
        ):
            for migration, _ in plan:
                watch.migration = str(migration)
                try:
                    with scratch.schema_editor(atomic=migration.atomic) as editor:
                        before = migration.apply(before, editor)
                except Exception as error:
                    error.add_note(
                        f"This was the migration {migration}, on a copy of the schema without a row. "
                        "Where it fails for want of rows alone: `-e site_migrate=unguarded`."
                    )
                    raise
        return watch.findings()
    finally:
        scratch.close()
        connections["default"] = real


_effective_default: Callable[[Any], Any] = BaseDatabaseSchemaEditor._effective_default


def _default_without_rows(field: Any) -> Any:
    """Return what a new column holds in rows that are there; on the copy none is.

    The default of a reference may be a row that a ``RunPython`` has made (Wagtail's collections).
    """
    try:
        return _effective_default(field)
    except Exception:
        if not field.is_relation:
            raise
        return 1


def copy_schema(settings: Mapping[str, Any], name: str) -> None:
    """Make a database an empty copy of another one.

    Args:
        settings: of the other one, as in ``DATABASES``.
        name: of the one that is emptied.

    Raises:
        CommandError: PostgreSQL's programs failed; with what they said.
    """
    if name == settings["NAME"]:
        raise CommandError(f"the migrations cannot be rehearsed in {name}: it is the database itself")
    source, environment = DatabaseClient.settings_to_cmd_args_env(dict(settings), [])
    target, _ = DatabaseClient.settings_to_cmd_args_env({**settings, "NAME": name}, [])
    dump = ["--schema-only", "--no-owner", "--no-privileges", f"--lock-wait-timeout={DUMP_WAIT}"]
    load = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    # `public` is there then, and the dump makes it only where it is another one than that of a new database.
    schema = re.sub(r"(?m)^CREATE SCHEMA public;$", "", _output(["pg_dump", *dump, *source[1:]], environment))
    _output([target[0], *load, *target[1:]], environment, f"SET client_min_messages = warning;\n{_EMPTIED}{schema}")


def _output(command: list[str], environment: dict[str, str] | None, text: str = "") -> str:
    done = subprocess.run(
        command,
        input=text,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise CommandError(
            f"the migrations could not be rehearsed, {command[0]} says: {done.stderr.strip()}\n"
            "`playbooks/datastores.yml` makes the database that they are rehearsed in; "
            "`-e site_migrate=unguarded` does without."
        )
    return done.stdout


class _Watch:
    """Looks at the copy before and after each statement that may change something.

    Args:
        scratch: the connection to the copy.
        used: the columns that the release that serves uses, by their tables.
    """

    def __init__(self, scratch: Any, used: Mapping[str, set[str]]) -> None:
        self._scratch = scratch
        self._used = used
        self._first = self._tables()
        self._first_columns = self._columns()
        self._seen: dict[tuple[int, int], Finding] = {}  # of columns, by table and number
        self._gone: dict[int, Finding] = {}  # of tables
        self._slow: dict[tuple[int, str], Finding] = {}
        self.migration = ""

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        """Execute a statement, as Django's `execute_wrapper` has it."""
        if _ASKS.match(sql):
            return execute(sql, params, many, context)
        if self._scratch.in_atomic_block or _ALONE.search(sql):
            return self._watched(execute, sql, params, many, context)
        with transaction.atomic():  # what it locks is known until it is committed
            return self._watched(execute, sql, params, many, context)

    def _watched(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        before = self._tables()
        result = execute(sql, params, many, context)
        self._compare(" ".join(sql.split())[:STATEMENT_SHOWN], before)
        return result

    def _compare(self, statement: str, before: Mapping[int, Table]) -> None:
        after = self._tables()
        for oid, table in self._first.items():
            now = after.get(oid)
            if now is None or oid not in before:
                self._note_gone(oid, statement, now)
                continue
            if now.file != before[oid].file:
                self._note_slow(oid, "rewrite", statement, f"writes {table.shown} anew, and all wait for it")
            elif now.locked and now.scans > before[oid].scans:
                words = f"reads all of {table.shown}, and whoever writes to it waits for that"
                self._note_slow(oid, "scan", statement, words)
            if now.name != table.name:
                self._note_gone(oid, statement, now)
            else:
                self._gone.pop(oid, None)
        self._compare_columns(statement)

    def _compare_columns(self, statement: str) -> None:
        """Note what of the columns is another than it was, and forget what is as it was again."""
        now = self._columns()
        for key, words in self._of_columns(now):
            oid = key[0]
            finding = Finding(self.migration, statement, self._first[oid].shown, words, by_rows=False)
            if key not in self._seen or self._seen[key].what != words:
                self._seen[key] = finding
        differing = {key for key, _ in self._of_columns(now)}
        self._seen = {key: finding for key, finding in self._seen.items() if key in differing}

    def _of_columns(self, now: Mapping[tuple[int, int], Column]) -> Iterator[tuple[tuple[int, int], str]]:
        present = {oid for oid, _ in now}
        for (oid, number), column in self._first_columns.items():
            table = self._first[oid]
            if oid not in present or column.name not in self._used.get(table.name, ()):
                continue
            other = now.get((oid, number))
            of = f"{table.shown}.{column.name}, which the release that serves uses"
            if other is None:
                yield (oid, number), f"drops {of}"
            elif other.name != column.name:
                yield (oid, number), f"renames {of}"
            elif other.not_null and not column.not_null:
                yield (oid, number), f"wants a value in {of}, and may leave empty"
        for (oid, number), column in now.items():
            table_before = self._first.get(oid)
            if (oid, number) in self._first_columns or table_before is None or table_before.name not in self._used:
                continue
            if column.not_null and not column.default:
                of = f"{table_before.shown}.{column.name}"
                words = f"wants a value in {of}, which the release that serves does not know (`db_default` gives one)"
                yield (oid, number), words

    def _note_gone(self, oid: int, statement: str, now: Table | None) -> None:
        table = self._first[oid]
        if oid not in self._gone and table.name in self._used:
            does = "drops" if now is None else "renames"
            words = f"{does} {table.shown}, which the release that serves uses"
            self._gone[oid] = Finding(self.migration, statement, table.shown, words, by_rows=False)

    def _note_slow(self, oid: int, kind: str, statement: str, words: str) -> None:
        finding = Finding(self.migration, statement, self._first[oid].shown, words, by_rows=True)
        self._slow.setdefault((oid, kind), finding)

    def findings(self) -> list[Finding]:
        """Return what was found, in the order in which it happens."""
        dropped = [finding for (oid, _), finding in self._seen.items() if oid not in self._gone]
        return [*self._slow.values(), *self._gone.values(), *dropped]

    # ---- What the copy says. Past Django, which would have this watched, too.

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with self._scratch.connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def _tables(self) -> dict[int, Table]:
        return {row[0]: Table(*row[1:]) for row in self._rows(_TABLES)}

    def _columns(self) -> dict[tuple[int, int], Column]:
        return {(row[0], row[1]): Column(*row[2:]) for row in self._rows(_COLUMNS)}
