"""Rehearse each migration of a well-known app as the upgrade from the one before, and see who is right.

A program, `python rehearse_apps.py NAME`, for an environment with `apps.txt`, and an empty database that libpq finds
(`PGDATABASE`, and `<PGDATABASE>-rehearsal`). What the guard says of a migration is compared with what happens: whether
the models of before can still read and write their tables behind it. It prints a JSON object for each migration.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from itertools import count
from typing import Any

import django
from django.conf import settings
from django.db import Error, IntegrityError, connection, models, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from celeriac.release.rehearsal import rehearsed

CONTRIB = [f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "sessions", "messages", "sites")]
WAGTAIL = (
    *("contrib.forms", "contrib.redirects", "contrib.settings", "contrib.simple_translation", "embeds", "sites"),
    *("users", "snippets", "documents", "images", "search", "admin"),
)
OSCAR = ("address", "basket", "catalogue", "communication", "customer", "offer", "order", "partner", "payment")
MORE_OF_OSCAR = ("analytics", "checkout", "search", "shipping", "voucher", "wishlists")
DASHBOARD = (
    *("catalogue", "communications", "offers", "orders", "pages", "partners", "ranges", "reports", "reviews"),
    *("shipping", "users", "vouchers"),
)
# What a project with the app installs.
APPS: dict[str, list[str]] = {
    "django-allauth": ["allauth", *(f"allauth.{name}" for name in ("account", "socialaccount", "mfa", "usersessions"))],
    "wagtail": [*(f"wagtail.{name}" for name in WAGTAIL), "wagtail", "modelcluster", "taggit"],
    "django-oauth-toolkit": ["oauth2_provider"],
    "django-filer": ["easy_thumbnails", "filer", "polymorphic"],
    "django-oscar": [
        "django.contrib.flatpages",
        "oscar.config.Shop",
        *(f"oscar.apps.{name}.apps.{name.title()}Config" for name in (*OSCAR, *MORE_OF_OSCAR)),
        "oscar.apps.catalogue.reviews.apps.CatalogueReviewsConfig",
        "oscar.apps.dashboard.apps.DashboardConfig",
        *(f"oscar.apps.dashboard.{name}.apps.{name.title()}DashboardConfig" for name in DASHBOARD),
        *("treebeard", "sorl.thumbnail", "haystack", "django_tables2", "widget_tweaks", "phonenumber_field"),
    ],
}
NUMBERS = count(1000)
# https://www.postgresql.org/docs/current/errcodes-appendix.html
UNIQUE_VIOLATION = "23505"


def configure(name: str) -> None:
    """Set Django up for a project with an app."""
    more: dict[str, Any] = {}
    if name == "django-oscar":
        from oscar import defaults

        more = {key: value for key, value in vars(defaults).items() if key.isupper()}
        more["HAYSTACK_CONNECTIONS"] = {"default": {"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}}
    if name == "django-allauth":
        more["MIDDLEWARE"] = ["allauth.account.middleware.AccountMiddleware"]
    database = {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"]}
    database |= {"HOST": os.environ["PGHOST"], "USER": os.environ["PGUSER"]}
    templates = {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
    settings.configure(
        **more,
        DATABASES={"default": database},
        INSTALLED_APPS=[*CONTRIB, *APPS[name]],
        SECRET_KEY="x" * 50,
        SITE_ID=1,
        USE_TZ=True,
        STATIC_URL="/static/",
        TEMPLATES=[templates],
        WAGTAIL_SITE_NAME="x",
        WAGTAILADMIN_BASE_URL="http://x",
        SILENCED_SYSTEM_CHECKS=["*"],
    )
    django.setup()


def value_for(field: Any, *, empty: bool) -> Any:
    """Return what a row is given for a field: as little as the model allows, or something wherever it can be."""
    if field.null and empty:
        return None
    if field.has_default():
        return field.get_default()
    if field.is_relation:
        return 1
    kind = field.get_internal_type()
    number = next(NUMBERS)
    of_kind: dict[str, Any] = {
        "BooleanField": False,
        "DateField": timezone.now().date(),
        "DateTimeField": timezone.now(),
        "DecimalField": 1,
        "DurationField": timezone.timedelta(1),
        "FloatField": 1.0,
        "GenericIPAddressField": "127.0.0.1",
        "JSONField": {},
        "UUIDField": f"00000000-0000-0000-0000-{number:012}",
    }
    if kind in of_kind:
        return of_kind[kind]
    if "Integer" in kind or "AutoField" in kind:
        return number % 30000
    return str(number)[: field.max_length or 20]


def abilities(model: Any) -> set[str]:
    """Return what a model can do with its table."""
    found = set()
    for name, action in (("read", read), ("write little", write_little), ("write all", write_all)):
        try:
            with transaction.atomic():
                action(model)
                # What it wrote is not to stay, nor to be compared with what it refers to.
                transaction.set_rollback(True)
            found.add(name)
        except IntegrityError as error:
            # A row that a migration has made: whoever writes another one can.
            if getattr(error.__cause__, "sqlstate", "") == UNIQUE_VIOLATION:
                found.add(name)
        except (Error, TypeError, ValueError):
            pass
    return found


def read(model: Any) -> None:
    """Read a row."""
    list(models.QuerySet(model).order_by()[:1])


def write_little(model: Any) -> None:
    """Write a row with what it must have."""
    _write(model, empty=True)


def write_all(model: Any) -> None:
    """Write a row with all that it may have."""
    _write(model, empty=False)


def _write(model: Any, *, empty: bool) -> None:
    fields = [field for field in model._meta.local_concrete_fields if not getattr(field, "generated", False)]
    row = model()
    for field in fields:
        # Past its descriptor: that of a picture would open the file.
        vars(row)[field.attname] = value_for(field, empty=empty)
    # Past whatever a model does beside writing, and its parents: that is of another table.
    models.QuerySet(model)._insert([row], fields=fields, using="default")


def rehearse(name: str) -> Iterator[dict[str, Any]]:
    """Yield what the guard says of each migration of an app, and what happens."""
    executor = MigrationExecutor(connection)
    executor.recorder.ensure_schema()
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    state = executor._create_project_state(with_applied_migrations=True)
    for migration, _ in plan:
        before = state.clone()
        is_of_contrib = migration.__module__.startswith("django.contrib.")
        found: list[Any] = []
        could: dict[Any, set[str]] = {}
        if not is_of_contrib:
            found = rehearsed([(migration, False)], before.clone(), f"{os.environ['PGDATABASE']}-rehearsal")
            could = {model: abilities(model) for model in before.apps.get_models(include_auto_created=True)}
        state = executor.apply_migration(state, migration)
        broken = [
            f"{model._meta.db_table}: cannot {', '.join(sorted(lost))}"
            for model, able in could.items()
            if (lost := able - abilities(model))
        ]
        if not is_of_contrib:
            refused = [each for each in found if not each.by_rows]
            yield {
                "migration": str(migration),
                "refused": [f"{each.statement[:100]} {each.what}" for each in refused],
                "refused_if_big": [f"{each.statement[:100]} {each.what}" for each in found if each.by_rows],
                "broken": broken,
            }


if __name__ == "__main__":
    configure(sys.argv[1])
    for line in rehearse(sys.argv[1]):
        print(json.dumps(line), flush=True)
