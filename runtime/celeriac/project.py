"""The deployed project, found by the names in the environment. The only place that looks.

======================================  ==========================================================
``CELERIAC_CELERY_APP``                 what one would give to ``celery -A``: ``TimeOut``,
                                        ``config.settings``, ``pkg.mod:attr``
``CELERIAC_WSGI_APPLICATION``           ``pkg.mod:attr``, or ``pkg.mod`` for its ``application``
``CELERIAC_ASGI_APPLICATION``           the same of an ASGI application, which counts in place of that one
``CELERIAC_RELEASE``                    the release that this process belongs to
======================================  ==========================================================
"""

import importlib
import os
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction
from celery import Celery
from celery.app.utils import find_app
from celery.exceptions import ImproperlyConfigured
from django.conf import settings
from django.urls import URLResolver

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

# As ASGI has them (https://asgi.readthedocs.io/en/stable/specs/main.html#applications).
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApplication = Callable[[Message, Receive, Send], Awaitable[None]]


def release() -> str:
    """Return the name of the release this process belongs to, ``unknown`` outside of one."""
    return os.environ.get("CELERIAC_RELEASE", "unknown")


def celery_app() -> Celery:
    """Import the project's own Celery app, the one ``celery -A $CELERIAC_CELERY_APP`` would run.

    Raises:
        ImproperlyConfigured: the variable is missing, or names no Celery app. An error inside
            the project's own modules is passed on as it is.
    """
    name = _required("CELERIAC_CELERY_APP", "TimeOut")
    _load_settings()
    app = _named("CELERIAC_CELERY_APP", name, lambda: _find_app(name))
    if not isinstance(app, Celery):
        raise ImproperlyConfigured(f"CELERIAC_CELERY_APP={name} is {app!r}, not a Celery app")
    return app


def wsgi_application() -> "WSGIApplication":
    """Import the project's own WSGI application.

    Raises:
        ImproperlyConfigured: the variable is missing, or names nothing that can be called. An
            error inside the project's own modules is passed on as it is.
    """
    found: WSGIApplication = _application("WSGI", "TimeOut.wsgi:application")
    return found


def asgi_application() -> ASGIApplication:
    """Import the project's own ASGI application.

    Raises:
        ImproperlyConfigured: as `wsgi_application`.
    """
    found: ASGIApplication = _application("ASGI", "TimeOut.asgi:application")
    return found


def is_asgi() -> bool:
    """Return whether the project is called as an ASGI application."""
    return bool(os.environ.get("CELERIAC_ASGI_APPLICATION", "").strip())


def web_application() -> object:
    """Import the application that the web processes call; raises what the import of either raises."""
    return asgi_application() if is_asgi() else wsgi_application()


def _application(kind: str, example: str) -> Any:
    variable = f"CELERIAC_{kind}_APPLICATION"
    name = _required(variable, example)
    _load_settings()
    module, _, attribute = name.partition(":")
    found = _named(variable, name, lambda: getattr(importlib.import_module(module), attribute or "application"))
    articles = {"WSGI": "a WSGI", "ASGI": "an ASGI"}
    if not callable(found):
        raise ImproperlyConfigured(f"{variable}={name} is not {articles[kind]} application")
    is_of = "ASGI" if any(map(iscoroutinefunction, (found, type(found).__call__))) else "WSGI"
    if is_of != kind:
        raise ImproperlyConfigured(
            f"{variable}={name} is {articles[is_of]} application, not {articles[kind]} application"
        )
    return found


def views(resolver: URLResolver) -> Iterator[object]:
    """Walk the whole URLconf, which imports every module that it includes.

    Args:
        resolver: where to begin, `django.urls.get_resolver()` for all of it.

    Yields:
        What each pattern calls.
    """
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            yield from views(pattern)
        else:
            yield pattern.callback


def _load_settings() -> None:
    """Load the settings that the environment names, before a module of the project names others.

    Some set ``DJANGO_SETTINGS_MODULE`` in `wsgi.py` and `celery.py`, whatever it is.
    """
    if os.environ.get("DJANGO_SETTINGS_MODULE"):
        settings.is_overridden("STATIC_ROOT")  # any question loads them


def _find_app(name: str) -> object:
    """Call Celery's own search; where it finds nothing, let the reason that it hides come out.

    Of a package it tries the module `celery`, and says nothing of an import that fails in there.
    """
    try:
        return find_app(name)
    except AttributeError:
        module = f"{name}.celery"
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
        raise


def _required(variable: str, example: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ImproperlyConfigured(f"{variable} is not set; give it a value like {example}")
    return value


def _named(variable: str, name: str, find: Callable[[], object]) -> object:
    """Call ``find``; turn "there is nothing of that name" into a sentence about the variable."""
    try:
        return find()
    except ModuleNotFoundError as error:
        parents = f"{name.partition(':')[0]}."
        if error.name != name and not parents.startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        raise ImproperlyConfigured(f"{variable}={name}: {error}") from error
    except AttributeError as error:
        raise ImproperlyConfigured(f"{variable}={name}: {error}") from error
