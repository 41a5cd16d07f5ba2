"""Every address of the site. On a host nginx keeps /static/ and /flower/ for itself."""

from django.contrib import admin
from django.urls import path, register_converter

from app import console, views
from app.api import api

register_converter(console.TextConverter, "text")

urlpatterns = [
    path("", views.home, name="home"),
    path("health/", views.health, name="health"),
    path("favicon.ico", views.favicon),
    path("tasks/add/", views.enqueue_add, name="enqueue-add"),
    path("tasks/", console.run_list, name="runs"),
    path("tasks/graphs/", console.graph_page, name="graphs"),
    path("tasks/emails/", console.send_emails, name="emails"),
    path("tasks/start/", console.choose_task, name="choose-task"),
    path("tasks/start/<text:name>/", console.start_task, name="start-task"),
    # Not a UUID: whoever sends a task may give it any id.
    path("tasks/<text:run_id>/revoke/", console.revoke, {"terminate": False}, name="revoke"),
    path("tasks/<text:run_id>/terminate/", console.revoke, {"terminate": True}, name="terminate"),
    path("tasks/<text:run_id>/rerun/", console.rerun, name="rerun"),
    path("tasks/<text:run_id>/release/", console.release, name="release"),
    path("tasks/<text:run_id>/", console.run, name="run"),
    path("api/", api.urls),
    path("admin/", admin.site.urls),
]
