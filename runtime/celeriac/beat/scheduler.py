"""Which scheduler a project has, with ours before it: what `celery beat --scheduler` is given.

======================================================  =====================================
the project's ``beat_scheduler``                        before it
======================================================  =====================================
django-celery-beat's, or one made from it               `celeriac.beat.database`
Celery's `PersistentScheduler`, or one made from it     `celeriac.beat.file`
not set, and django-celery-beat is in INSTALLED_APPS    as if it were django-celery-beat's
not set otherwise                                       as Celery has it: `PersistentScheduler`
======================================================  =====================================

Any other is refused: nobody knows how it bears a second one beside it.
"""

from typing import Any

from celery import Celery
from celery.beat import PersistentScheduler
from celery.utils.imports import load_extension_class_names, symbol_by_name
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from celeriac.beat.leading import Leading
from celeriac.internals import is_set

# Where Celery itself looks up short names of schedulers, such as `django`.
_ALIASES = "celery.beat_schedulers"


def scheduler(app: Celery, **options: Any) -> Leading:
    """Return the scheduler of a project, made from its own.

    Args:
        app: of the project.
        options: what Celery gives to a scheduler.

    Raises:
        ImproperlyConfigured: it is of no kind that can be.
    """
    name = app.conf.beat_scheduler
    in_database = apps.is_installed("django_celery_beat")
    if in_database and not is_set(app, "beat_scheduler"):
        name = "django_celery_beat.schedulers:DatabaseScheduler"
    own = symbol_by_name(name, dict(load_extension_class_names(_ALIASES)))
    ours = _ours(own, in_database)
    made = ours if issubclass(ours, own) else type(ours.__name__, (ours, own), {})
    found: Leading = made(app, **options)
    return found


def _ours(own: type, in_database: bool) -> Any:
    """Return what goes before a scheduler."""
    if issubclass(own, PersistentScheduler):
        from celeriac.beat.file import FileScheduler

        return FileScheduler
    if in_database:
        from django_celery_beat import schedulers

        from celeriac.beat.database import DatabaseScheduler

        if issubclass(own, schedulers.DatabaseScheduler):
            return DatabaseScheduler
    raise ImproperlyConfigured(
        f"CELERY_BEAT_SCHEDULER is {own.__module__}:{own.__qualname__}, and on a site it is django-celery-beat's (with "
        '"django_celery_beat" in INSTALLED_APPS), Celery\'s own, or one made from these: '
        'CELERY_BEAT_SCHEDULER = "celery.beat:PersistentScheduler"'
    )
