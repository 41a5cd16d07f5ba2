"""Whether each setting that looks like Celery's is one: Celery itself says nothing of a misspelt name.

Source of the names: https://docs.celeryq.dev/en/stable/userguide/configuration.html
"""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from celery.app.defaults import NAMESPACES, flatten
from django.core.exceptions import ImproperlyConfigured

# As in `config_from_object(..., namespace="CELERY")`.
PREFIX = "CELERY_"


def refuse_unknown(names: Iterable[str], settings_module: str) -> None:
    """Say nothing if each of these settings is either Celery's or nothing like it.

    django-celery-beat and django-celery-results read no others that begin with CELERY_.

    Args:
        names: of all the settings.
        settings_module: where they come from; its file is named in the message.

    Raises:
        ImproperlyConfigured: with the right name for each wrong one, as far as there is one near.
    """
    wrong = [problem(name) for name in sorted(names)]
    if found := [text for text in wrong if text]:
        file = getattr(importlib.import_module(settings_module), "__file__", None) or settings_module
        raise ImproperlyConfigured(f"{file}: {' '.join(found)}")


def problem(name: str) -> str:
    """Return what is wrong with the name of a setting, "" for nothing."""
    if not name.startswith("CELERY") or name in _NOW:
        return ""
    if name in _BEFORE:
        # Celery still reads these; a reader who looks one up finds nothing, and of two it uses one.
        return f"{name} is called {_BEFORE[name]} now."
    near = difflib.get_close_matches(name, _NOW, n=1)
    return f"Celery has no setting {name}" + (f"; did you mean {near[0]}?" if near else ".")


def _names() -> tuple[frozenset[str], Mapping[str, str]]:
    """Return the names of today, and those of before Celery 4 with what each is now."""
    entries: Any = flatten(NAMESPACES, keyfilter=lambda root, short, option: [(root + short, short, option)])
    olds = {key: [form.format(short).upper() for form in option.old] for key, short, option in entries}
    now = frozenset(PREFIX + key.upper() for key in olds)
    return now, {old: PREFIX + key.upper() for key, old_names in olds.items() for old in old_names if old not in now}


_NOW, _BEFORE = _names()
