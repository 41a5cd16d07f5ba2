"""The steps of `celeriac.release` that have no module of their own.

Each returns its outcome in a few words, or raises.
"""

import io
import os
from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connections
from django.template import engines
from django.urls import get_resolver

from celeriac import moving
from celeriac.configure import RETRIES_IN_WEB, configure
from celeriac.project import celery_app, views, web_application
from celeriac.release import caches, static


def check() -> str:
    """Run Django's checks, with those for deployment, of the databases, the caches and the static files."""
    caches.register(celery_app())
    static.register()
    level = os.environ.get("CELERIAC_CHECK_FAIL_LEVEL", "WARNING")
    output = io.StringIO()
    silenced = settings.SILENCED_SYSTEM_CHECKS
    settings.SILENCED_SYSTEM_CHECKS = [*silenced, *os.environ.get("CELERIAC_CHECK_IGNORE", "").split()]
    try:
        call_command("check", deploy=True, fail_level=level, databases=list(connections), stdout=output)
    finally:
        settings.SILENCED_SYSTEM_CHECKS = silenced
    return f"nothing at {level} or above"


def import_everything() -> str:
    """Import what the processes of the release will, so that a broken import fails here."""
    app = configure(celery_app(), result_retries=RETRIES_IN_WEB)
    web_application()
    found = sum(1 for _ in views(get_resolver()))
    engines.all()
    for code in (400, 403, 404, 500):
        get_resolver().resolve_error_handler(code)
    app.loader.import_default_modules()
    app.finalize()
    _check_beat_schedule(app.conf.beat_schedule, app.tasks)
    return f"{found} views, {len(app.tasks)} tasks"


def move_back() -> str:
    """Move what this release has sent, and nobody has executed, to the broker before: the release is undone."""
    return f"{moving.move_back(configure(celery_app(), result_retries=RETRIES_IN_WEB))} tasks moved"


def admin() -> str:
    """Create the first superuser, if one is asked for; give one that is there a new password.

    Whoever gives the password says whether it is new (`CELERIAC_ADMIN_PASSWORD_IS_NEW`): only then
    it is set, for a person may have changed it since.
    """
    name = os.environ.get("CELERIAC_ADMIN_USERNAME", "")
    if not name:
        return "no admin is asked for (site_admin_username), nothing to do"
    if not apps.is_installed("django.contrib.auth"):
        return "the project does not use django.contrib.auth"
    model: Any = get_user_model()  # with whatever fields the project gave it
    user = model._default_manager.filter(**{model.USERNAME_FIELD: name}).first()
    if user and "CELERIAC_ADMIN_PASSWORD_IS_NEW" not in os.environ:
        return f"{name} is there already"
    password = os.environ.get("CELERIAC_ADMIN_PASSWORD", "")
    if not password:
        raise CommandError(
            "an admin is asked for (site_admin_username), and the password is empty (vault_site_admin_password)"
        )
    if user:
        user.set_password(password)
        user.save()
        return f"{name} has the new password"
    required = {field: _admin_field(field) for field in model.REQUIRED_FIELDS}
    model._default_manager.create_superuser(**{model.USERNAME_FIELD: name, "password": password, **required})
    return f"{name} created"


def _admin_field(field: str) -> str:
    """Return what another required field of the user model shall hold: empty, unless given."""
    return os.environ.get(f"CELERIAC_ADMIN_{field.upper()}", "")


def _check_beat_schedule(schedule: Mapping[str, Any], tasks: Mapping[str, object]) -> None:
    """Refuse entries that beat would send and no worker could execute."""
    unknown = [
        f"{name!r} names the task {entry['task']!r}, which is not registered"
        for name, entry in schedule.items()
        if entry["task"] not in tasks
    ]
    if unknown:
        raise CommandError("beat_schedule: " + "; ".join(unknown))
