"""What a web process loads before gunicorn forks it, whichever way the project is called."""

from collections.abc import Callable
from typing import TypeVar

from celery import Celery
from django.db import connections
from django.template import engines
from django.urls import get_resolver

from celeriac.configure import RETRIES_IN_WEB, configure
from celeriac.project import celery_app, views
from celeriac.systemd import keep_sockets

Application = TypeVar("Application")


@keep_sockets()
def load(find: Callable[[], Application]) -> tuple[Celery, Application]:
    """Return the project's Celery app and its application, with nothing connected.

    Args:
        find: imports the application.
    """
    app = configure(celery_app(), result_retries=RETRIES_IN_WEB)
    application = find()

    # What Django would do in the first request of each of gunicorn's children, done once for all.
    list(views(get_resolver()))
    engines.all()

    # What the project connected while it was imported, gunicorn's children would share, and break.
    for connection in connections.all(initialized_only=True):
        connection.close()
        if hasattr(connection, "close_pool"):  # PostgreSQL's, from Django 5.1 on
            connection.close_pool()
    return app, application
