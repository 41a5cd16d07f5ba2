"""The project. Importing it makes the Celery app the current one, so `@shared_task` binds to it.

Source: https://docs.celeryq.dev/en/stable/django/first-steps-with-django.html
"""

from TimeOut.celery import app as celery_app

__all__ = ["celery_app"]
