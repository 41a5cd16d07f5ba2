"""Every address of the site. On a host nginx keeps /static/ and /flower/ for itself."""

from celeriac import health
from django.contrib import admin
from django.urls import include, path

from app import views

urlpatterns = [
    path("", views.home, name="home"),
    path("health/", health.view, name="health"),
    path("favicon.ico", views.favicon),
    path("tasks/add/", views.enqueue_add, name="enqueue-add"),
    path("tasks/emails/", views.send_emails, name="emails"),
    path("tasks/", include("celeriac.console.urls")),
    path("admin/", admin.site.urls),
]
