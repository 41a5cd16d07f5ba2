"""The Celery app, as Celery's own first steps with Django have it."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "another.settings")

app = Celery("another")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
