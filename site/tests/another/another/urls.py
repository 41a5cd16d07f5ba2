"""The console has a place of its own, and so have the admin and the page that says whether all is there."""

from celeriac import health
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def no_icon(request: HttpRequest) -> HttpResponse:
    """Answer a browser that asks for an icon on the pages of the admin, which name none."""
    return HttpResponse(status=204)


urlpatterns = [
    path("favicon.ico", no_icon),
    path("back-office/", admin.site.urls),
    path("up/", health.view),
    path("ops/jobs/", include("celeriac.console.urls")),
]
