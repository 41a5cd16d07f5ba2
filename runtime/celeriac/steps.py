"""The steps of `celeriac.prepare`. Each returns its outcome in a few words, or raises."""

import importlib
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.urls import URLResolver, get_resolver

# Any number will do as long as every host uses the same: "celeriac" in ASCII.
MIGRATION_LOCK = int.from_bytes(b"celeriac")

# As long as one host's data migration may take while another waits for it.
MIGRATION_LOCK_TIMEOUT_SECONDS = 600


def check() -> str:
    """Run Django's checks, with those for deployment and those of the databases."""
    level = os.environ.get("CELERIAC_CHECK_FAIL_LEVEL", "WARNING")
    output = io.StringIO()
    call_command("check", deploy=True, fail_level=level, databases=list(connections), stdout=output)
    return f"nothing at {level} or above"


def import_everything() -> str:
    """Import what the processes of the release will, so that a broken import fails here."""
    wsgi = importlib.import_module("celeriac.wsgi")
    views = sum(1 for _ in _views(get_resolver()))
    for code in (400, 403, 404, 500):
        get_resolver().resolve_error_handler(code)
    wsgi.app.loader.import_default_modules()
    wsgi.app.finalize()
    _check_beat_schedule(wsgi.app.conf.beat_schedule, wsgi.app.tasks)
    return f"{views} views, {len(wsgi.app.tasks)} tasks"


def migrate() -> str:
    """Bring the default database to the schema of this release."""
    lock_timeout = int(os.environ.get("CELERIAC_LOCK_TIMEOUT_SECONDS", "10"))
    with _one_host_at_a_time(lock_timeout):
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        call_command("migrate", interactive=False, verbosity=0)
    return f"{len(plan)} migrations applied"


def static() -> str:
    """Collect the static files into STATIC_ROOT."""
    if not apps.is_installed("django.contrib.staticfiles"):
        return "the project does not use django.contrib.staticfiles"
    output = io.StringIO()
    call_command("collectstatic", interactive=False, stdout=output)
    return output.getvalue().strip().rpartition("\n")[2].rstrip(".")


def admin() -> str:
    """Create the first superuser, if one is asked for and there is no user of that name."""
    name = os.environ.get("CELERIAC_ADMIN_USERNAME", "")
    if not name:
        return "CELERIAC_ADMIN_USERNAME is not set, nothing to do"
    if not apps.is_installed("django.contrib.auth"):
        return "the project does not use django.contrib.auth"
    model: Any = get_user_model()  # with whatever fields the project gave it
    if model._default_manager.filter(**{model.USERNAME_FIELD: name}).exists():
        return f"{name} is there already"
    password = os.environ.get("CELERIAC_ADMIN_PASSWORD", "")
    if not password:
        raise CommandError("CELERIAC_ADMIN_USERNAME is set, CELERIAC_ADMIN_PASSWORD is not")
    required = {field: _admin_field(field) for field in model.REQUIRED_FIELDS}
    model._default_manager.create_superuser(
        **{model.USERNAME_FIELD: name, "password": password, **required}
    )
    return f"{name} created"


def _admin_field(field: str) -> str:
    """Return what another required field of the user model shall hold: empty, unless given."""
    return os.environ.get(f"CELERIAC_ADMIN_{field.upper()}", "")


def _views(resolver: URLResolver) -> Iterator[object]:
    """Walk the whole URLconf, which imports every module that it includes."""
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            yield from _views(pattern)
        else:
            yield pattern.callback


def _check_beat_schedule(schedule: Mapping[str, Any], tasks: Mapping[str, object]) -> None:
    """Refuse entries that beat would send and no worker could execute."""
    unknown = [
        f"{name!r} names the task {entry['task']!r}, which is not registered"
        for name, entry in schedule.items()
        if entry["task"] not in tasks
    ]
    if unknown:
        raise CommandError("beat_schedule: " + "; ".join(unknown))


@contextmanager
def _one_host_at_a_time(lock_timeout_seconds: int) -> Iterator[None]:
    """Hold PostgreSQL's advisory lock for migrations, in a session that waits for no other lock.

    Other databases have neither; there it does nothing.

    Args:
        lock_timeout_seconds: how long a statement of a migration may wait for a lock. Behind a
            waiting ALTER TABLE every query on that table waits too, and the site stands still.
    """
    if connection.vendor != "postgresql":
        yield
        return
    connection.close()
    options = connection.settings_dict["OPTIONS"]
    options.pop("pool", None)  # it would hand out sessions that began with other options
    session = f"{options.get('options', '')} -c lock_timeout={lock_timeout_seconds}s"
    options["options"] = session.strip()
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{MIGRATION_LOCK_TIMEOUT_SECONDS}s'")
        cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        cursor.execute("RESET lock_timeout")  # to what the session began with
    try:
        yield
    finally:
        connection.close()  # which gives the lock back
