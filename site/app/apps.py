"""The app: posts with a counter, and the tasks that work on them."""

from django.apps import AppConfig


class AppConfiguration(AppConfig):
    """Names it for the admin."""

    name = "app"
    verbose_name = "Posts"
