"""The schema of the default database: brought to this release, or found to fit it.

The steps of `celeriac.release` that deal with migrations. Each returns its outcome in a few words,
or raises.
"""

import json
import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.core.management import (
    BaseCommand,
    CommandError,
    call_command,
    get_commands,
    load_command_class,
)
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import AddField, CreateModel

from celeriac.postgresql import begin_with
from celeriac.release import commands, restore_point
from celeriac.release.rehearsal import refuse_what_hurts

# Any number will do as long as every host uses the same: "celeriac" in ASCII.
MIGRATION_LOCK = int.from_bytes(b"celeriac")
# What a release says of a database that is not its own (roles/backup/files/site_backup.py).
NOT_ITS_OWN = "the database is not the one of this release"
# Behind how long something took.
TIME = "(site_migrate_timeout_seconds) and was stopped"


class OutOfTime(BaseException):
    """The time for the migrations is over. No `Exception`: no migration shall catch it."""


def migrate() -> str:
    """Bring the default database to the schema of this release, by each command of `CELERIAC_MIGRATE_COMMANDS`."""
    lock_timeout = int(os.environ.get("CELERIAC_LOCK_TIMEOUT_SECONDS") or 10)
    seconds = int(os.environ.get("CELERIAC_MIGRATE_SECONDS") or 600)
    listed = commands.listed("CELERIAC_MIGRATE_COMMANDS", "migrate")
    if not listed:
        return "there are no commands, nothing to do"
    with _one_host_at_a_time(lock_timeout, seconds):
        return ", ".join([(_migrated if words[0] == "migrate" else _done)(words, seconds) for words in listed])


def _migrated(words: list[str], seconds: int) -> str:
    """Run ``migrate``; an error of it names the migration."""
    command = _command()
    at: list[Any] = []  # the migration that is being applied
    following = command.migration_progress_callback

    def follow(action: str, migration: Any = None, fake: bool = False) -> None:
        at[:] = [migration] if action == "apply_start" else []
        following(action, migration, fake)

    command.migration_progress_callback = follow
    plan = _plan()
    try:
        with _at_most(seconds):
            refuse_what_hurts(plan)
    except OutOfTime:
        raise CommandError(
            f"the migrations' rehearsal did not end in {seconds} s {TIME}; nothing was migrated"
        ) from None
    point = restore_point.make(plan, _stuck(plan))
    with _telling(at, seconds, "This was the migration"):
        call_command(command, *words[1:], interactive=False, verbosity=0)
    return " ".join([f"{len(plan) - len(_plan())} migrations applied", *filter(None, [point])])


def _plan() -> list[Any]:
    """Return the migrations of this release that the default database has not, as an executor has them."""
    executor = MigrationExecutor(connection)
    found: list[Any] = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return found


def _done(words: list[str], seconds: int) -> str:
    """Run another command of ``manage.py``."""
    name = words[0]
    # It may migrate in its own way.
    point = restore_point.make(plan := _plan(), _stuck(plan)) if restore_point.is_wanted() else ""
    try:
        with _at_most(seconds):
            commands.run(words)
    except OutOfTime:
        raise CommandError(f"{name} did not end in {seconds} s {TIME}; what it did until then stays") from None
    return " ".join([f"{name} done", *filter(None, [point])])


def known() -> str:
    """Find out whether this release knows every migration that the database has.

    A release that does not would meet columns and tables that it does not know: ask before a
    rollback.

    Raises:
        CommandError: it does not; with what is in the way, and what removes it.
    """
    loader = MigrationLoader(connection)
    ours = _ours(loader)
    applied = set(loader.applied_migrations)
    unknown = sorted(name for name in applied - ours if not _only_squashes(name, ours & applied))
    if not unknown:
        return f"all {len(applied)} applied migrations are known to this release"
    manage = os.environ.get("CELERIAC_MANAGE", "site-manage")
    ways = [f"  {manage} migrate {app} {_last_common(loader, app)}" for app in sorted({app for app, _ in unknown})]
    raise CommandError(
        "\n".join(
            [
                "the database has migrations that this release does not know:",
                *(f"  {app}.{name}" for app, name in unknown),
                "Undo them with the release that serves now, which knows them:",
                *ways,
                "or leave this release alone, and ship a new one that repairs what is wrong.",
            ]
        )
    )


def reversible() -> str:
    """Say what it costs to take back what the release of `CELERIAC_KNOWN_MIGRATIONS` does not know.

    That file is what `note` has written there. The release that serves is asked: it has these migrations.

    Returns:
        A line for each migration, the last one first: what is lost with it.

    Raises:
        CommandError: one of them cannot be taken back.
    """
    executor = MigrationExecutor(connection)
    _, plan = _way_back(executor)
    if stuck := _stuck(plan):
        raise CommandError("\n".join(["there is no way back over these migrations, their authors gave none:", *stuck]))
    state = executor.loader.project_state()
    lines = [f"  {migration}: {', '.join(_losses(migration, state)) or 'nothing is lost'}" for migration, _ in plan]
    return "\n".join([f"{len(plan)} migrations can be taken back", *lines])


def reverse() -> str:
    """Take back what the release of `CELERIAC_KNOWN_MIGRATIONS` does not know, or what is left of that."""
    lock_timeout = int(os.environ.get("CELERIAC_LOCK_TIMEOUT_SECONDS") or 10)
    seconds = int(os.environ.get("CELERIAC_MIGRATE_SECONDS") or 600)
    at: list[Any] = []

    def follow(action: str, migration: Any = None, _: bool = False) -> None:
        at[:] = [migration] if action == "unapply_start" else []

    with _one_host_at_a_time(lock_timeout, seconds):
        executor = MigrationExecutor(connection, follow)
        targets, plan = _way_back(executor)
        with _telling(at, seconds, "This was the way back over the migration"):
            executor.migrate(targets, plan)
    return f"{len(plan)} migrations taken back"


def _way_back(executor: MigrationExecutor) -> tuple[list[Any], list[Any]]:
    """Return where to, for each app, and over which migrations: as an executor has them."""
    loader = executor.loader
    names: list[str] = json.loads(Path(os.environ["CELERIAC_KNOWN_MIGRATIONS"]).read_text())
    known = {tuple(name.split(".", 1)) for name in names}
    apps = sorted({app for app, name in loader.applied_migrations if (app, name) not in known})
    targets: list[Any] = []
    for app in apps:
        path = [node for leaf in loader.graph.leaf_nodes(app) for node in loader.graph.forwards_plan(leaf)]
        common = [node for node in path if node[0] == app and node in known and node in loader.applied_migrations]
        targets.append(common[-1] if common else (app, None))
    plan = executor.migration_plan(targets)
    if needed := [str(migration) for migration, _ in plan if (migration.app_label, migration.name) in known]:
        raise CommandError(f"on the way back is {', '.join(needed)}, which the other release needs")
    return targets, plan


def fits() -> str:
    """Compare the migrations of this release with those that the database has, in both directions.

    Raises:
        CommandError: they are not the same; with those that are missing, and those that are too many.
    """
    loader = MigrationLoader(connection)
    ours = _ours(loader)
    applied = set(loader.applied_migrations)
    unknown = sorted(name for name in applied - ours if not _only_squashes(name, ours & applied))
    lacking = [str(migration) for migration, _ in _plan()]
    parts = [f"it lacks {', '.join(lacking)}"] if lacking else []
    parts += [f"it has {', '.join(map('.'.join, unknown))}, which this release does not know"] if unknown else []
    if parts:
        raise CommandError(f"{NOT_ITS_OWN}: {'; '.join(parts)}")
    return "the database is the one of this release"


def _stuck(plan: Sequence[tuple[Any, bool]]) -> list[str]:
    """Return a line for each operation of a plan that cannot be taken back."""
    return [f"  {migration}: {words}" for migration, _ in plan for words in _irreversible(migration.operations)]


def _irreversible(operations: Sequence[Any]) -> Iterator[str]:
    """Yield what each operation that cannot be taken back does."""
    for operation in operations:
        if not operation.reversible:
            yield operation.describe()
        yield from _irreversible(getattr(operation, "database_operations", ()))


def _losses(migration: Any, state: Any) -> Iterator[str]:
    """Yield which rows, or values in rows, are gone when a migration is taken back."""
    for operation in migration.operations:
        model = getattr(operation, "model_name", operation.name if isinstance(operation, CreateModel) else "")
        if (
            not isinstance(operation, CreateModel | AddField)
            or (migration.app_label, model.lower()) not in state.models
        ):
            continue
        table = state.apps.get_model(migration.app_label, model)
        if isinstance(operation, CreateModel):
            yield f"the {table._default_manager.count()} rows of {table._meta.db_table}"
        elif column := table._meta.get_field(operation.name).column:
            values = table._default_manager.exclude(**{f"{operation.name}__isnull": True}).count()
            yield f"{table._meta.db_table}.{column} of {values} rows"


def note() -> str:
    """Write the names of all migrations that this release knows into `CELERIAC_MIGRATIONS_FILE`.

    From them a rollback sees at once, without starting Django, that nothing is in its way.
    """
    names = sorted(f"{app}.{name}" for app, name in _ours(MigrationLoader(None)))
    Path(os.environ["CELERIAC_MIGRATIONS_FILE"]).write_text(json.dumps(names))
    return f"{len(names)} migrations are known to this release"


def _ours(loader: MigrationLoader) -> set[tuple[str, str]]:
    """Return the migrations of this release, and those that they replace."""
    replaced = {old for squash in loader.disk_migrations.values() for old in squash.replaces}
    return replaced | set(loader.disk_migrations)


def _only_squashes(migration: tuple[str, str], common: set[tuple[str, str]]) -> bool:
    """Return whether a migration that we do not know stands for others that we do.

    Django notes a squash as applied beside all that it replaces. What it replaces is not in the
    database, but ``squashmigrations`` gives it the name of the last of them.
    """
    app, name = migration
    squash = re.fullmatch(r"\d+\w*?_squashed_(\w+)", name)
    return squash is not None and (app, squash[1]) in common


def _last_common(loader: MigrationLoader, app: str) -> str:
    """Return the last migration of an app that we know and the database has, or ``zero``."""
    graph = loader.graph
    plan = [node for leaf in graph.leaf_nodes(app) for node in graph.forwards_plan(leaf)]
    common = [name for label, name in plan if label == app and (app, name) in loader.applied_migrations]
    return common[-1] if common else "zero"


def _command() -> Any:
    """Return the project's own ``migrate`` command, which most often is Django's."""
    found = get_commands()["migrate"]
    return found if isinstance(found, BaseCommand) else load_command_class(found, "migrate")


def _too_long(at: list[Any], seconds: int) -> str:
    name = str(at[0]) if at else "migrate"
    undone = bool(at) and at[0].atomic and connection.features.can_rollback_ddl
    outcome = "was rolled back" if undone else "what it did until then stays"
    return f"{name} did not end in {seconds} s {TIME}; {outcome}"


@contextmanager
def _telling(at: list[Any], seconds: int, words: str) -> Iterator[None]:
    """Bound what migrates, and have its error name the migration.

    Args:
        at: the migration that is being applied or taken back, empty for none.
        seconds: how long it may take.
        words: what stands before its name.

    Raises:
        CommandError: it took longer. Other errors are its own.
    """
    try:
        with _at_most(seconds):
            yield
    except OutOfTime:
        raise CommandError(_too_long(at, seconds)) from None
    except Exception as error:
        if at:
            error.add_note(f"{words} {at[0]}.")
        raise


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """Raise `OutOfTime` inside the block after so many seconds, wherever it is then."""

    def over(*_: object) -> None:
        if connection.vendor == "postgresql" and connection.connection is not None:
            with suppress(Exception):  # the server would go on, and keep all its locks
                connection.connection.cancel()
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _one_host_at_a_time(lock_timeout_seconds: int, seconds: int) -> Iterator[None]:
    """Hold PostgreSQL's advisory lock for migrations, in a session in which nothing takes for ever.

    Other databases have neither; there it does nothing.

    Args:
        lock_timeout_seconds: how long a statement of a migration may wait for a lock. Behind a
            waiting ALTER TABLE every query on that table waits too, and the site stands still.
        seconds: how long it may take, should nobody be left to cancel it; and how long one host
            waits for the migrations of another.

    Raises:
        CommandError: another host took too long.
    """
    if connection.vendor != "postgresql":
        yield
        return
    connection.close()
    begin_with(
        connection.settings_dict["OPTIONS"],
        lock_timeout=f"{lock_timeout_seconds}s",
        statement_timeout=f"{seconds}s",
        # In the middle of a statement the server does not notice that its client was killed: the
        # statement would go on, and keep its locks and ours. (PostgreSQL 14 and later.)
        client_connection_check_interval="1s",
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{seconds}s'; SET statement_timeout = 0")
        try:
            cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        except OperationalError as error:
            raise CommandError(f"another host has been migrating for {seconds} s: {error}") from error
        # To what the session began with.
        cursor.execute("RESET lock_timeout; RESET statement_timeout")
    try:
        yield
    finally:
        connection.close()  # which releases the lock
