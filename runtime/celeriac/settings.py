"""What ``DJANGO_SETTINGS_MODULE`` names on a host: the project's settings, and what is laid over them.

======================================  ==========================================================
``CELERIAC_SETTINGS_MODULE``            the project's own settings: ``config.settings``
``CELERIAC_SETTINGS``                   a JSON object: settings that win over all others
``STATIC_ROOT``                         where the release has its static files
``CELERIAC_SECRET_KEY_BEFORE``          what was signed with it holds, where ``SECRET_KEY`` is the key
======================================  ==========================================================

Laid over them, from the weakest to the strongest: ``SECURE_PROXY_SSL_HEADER`` where the project has
none, ``STATIC_ROOT``, the key before in ``SECRET_KEY_FALLBACKS``, and what the inventory says.
Nobody else sees a difference: code that imports the project's module finds the same values in
there, ``settings.SETTINGS_MODULE`` is its name, and so is the variable while it is loaded. Where
the project has a `pathlib.Path`, the new value is one, too. What a project computes from a setting
while it is loaded, it computes from its own value.

An upper-case name in here would be a setting.
"""

import importlib
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from django.core.exceptions import ImproperlyConfigured


def _project() -> ModuleType:
    """Import the project's settings, with the environment as they know it."""
    name = os.environ.get("CELERIAC_SETTINGS_MODULE", "").strip()
    if not name:
        raise ImproperlyConfigured("CELERIAC_SETTINGS_MODULE is not set; give it a value like config.settings")
    os.environ["DJANGO_SETTINGS_MODULE"] = name
    try:
        return importlib.import_module(name)
    finally:
        # What this process starts has the same settings.
        os.environ["DJANGO_SETTINGS_MODULE"] = __name__


def _laid_over(project: ModuleType) -> dict[str, Any]:
    laid: dict[str, Any] = {}
    if not hasattr(project, "SECURE_PROXY_SSL_HEADER"):
        # nginx overwrites it in every request. Without it a project that sends people to HTTPS does so for ever.
        laid["SECURE_PROXY_SSL_HEADER"] = ("HTTP_X_FORWARDED_PROTO", "https")
    if static := os.environ.get("STATIC_ROOT"):
        laid["STATIC_ROOT"] = static
    before = os.environ.get("CELERIAC_SECRET_KEY_BEFORE")
    # A project with a key of its own has never signed anything with one of the inventory's.
    if before and getattr(project, "SECRET_KEY", None) == os.environ.get("SECRET_KEY"):
        laid["SECRET_KEY_FALLBACKS"] = [*getattr(project, "SECRET_KEY_FALLBACKS", ()), before]
    laid |= json.loads(os.environ.get("CELERIAC_SETTINGS") or "{}")
    return {name: _like(getattr(project, name, None), value) for name, value in laid.items()}


def _like(own: object, value: Any) -> Any:
    """Return a value for one of the project's, which has code that wants a path to be one."""
    return Path(value) if isinstance(own, Path) and isinstance(value, str) else value


_module = _project()
vars(_module).update(_laid_over(_module))
globals().update({name: getattr(_module, name) for name in dir(_module) if name.isupper()})
# Django has set its own to the name of this module before it reads it (`django.conf.Settings`).
globals()["SETTINGS_MODULE"] = _module.__name__
