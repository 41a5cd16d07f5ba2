"""Releases that migrate the app `probe`, and the way back from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from stack.lab import Site
from stack.playbook import Run
from stack.releases import append

# The migration that each release has.
AFTER = "0001_initial"
MIGRATION = """
from django.db import migrations, models
class Migration(migrations.Migration):
    dependencies = [("probe", "{after}")]
    operations = [{operations}]
"""


def with_a_migration(operations: str, name: str, after: str = AFTER) -> Callable[[Path], None]:
    """An edit: a migration more."""

    def edit(source: Path) -> None:
        append(source / f"probe/migrations/{name}.py", MIGRATION.format(operations=operations, after=after))

    return edit


def rollback(site: Site, **more: object) -> Run:
    """Go back to the release before."""
    return site.start("playbooks/rollback.yml", "--extra-vars", json.dumps(more)).wait()


def applied(site: Site) -> set[str]:
    """Return the migrations of the app `probe` that the database has."""
    return {name for (name,) in site.sql("SELECT name FROM django_migrations WHERE app = 'probe'")}
