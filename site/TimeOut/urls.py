"""Every address of the site. On a host nginx keeps /static/ and /flower/ for itself."""

from django.contrib import admin
from django.urls import path

from app import views

urlpatterns = [
    path("", views.home, name="home"),
    path("health/", views.health, name="health"),
    path("tasks/add/", views.enqueue_add, name="enqueue-add"),
    path("tasks/<uuid:task_id>/", views.task_state, name="task-state"),
    path("admin/", admin.site.urls),
]
