"""A small project that is not the site: its users, its pages and its policy are others."""

from another.celery import app as celery_app

__all__ = ["celery_app"]
