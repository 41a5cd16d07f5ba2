"""Where the entries of the schedule are in the admin."""

from collections.abc import Iterable

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse


def pages(request: HttpRequest, names: Iterable[str]) -> dict[str, str]:
    """Return the addresses of the entries of these names, as far as there are any and whoever asks may see them.

    Args:
        request: of whoever asks.
        names: of entries; of those that are gone, too.
    """
    wanted = {*names} - {""}
    if not wanted or not apps.is_installed("django_celery_beat"):
        return {}
    from django_celery_beat.models import PeriodicTask

    if not admin.site.is_registered(PeriodicTask):
        return {}
    if not admin.site.get_model_admin(PeriodicTask).has_view_permission(request):
        return {}
    rows = PeriodicTask.objects.filter(name__in=wanted).values_list("name", "pk")
    return {name: reverse("admin:django_celery_beat_periodictask_change", args=[pk]) for name, pk in rows}
