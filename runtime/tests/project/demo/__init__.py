"""A Django + Celery project as anybody writes one. It does not know the package under test."""
