"""The project's Celery app, where `celery -A demo` finds it."""

from celery import Celery

app = Celery("demo")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
