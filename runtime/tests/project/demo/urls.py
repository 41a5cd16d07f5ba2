"""One page."""

from django.urls import include, path

urlpatterns = [path("", include("work.urls"))]
