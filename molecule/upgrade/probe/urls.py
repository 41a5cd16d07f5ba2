"""Where the views are."""

from django.urls import path

from . import views

urlpatterns = [
    path("send/", views.send),
    path("broadcast/", views.broadcast),
    path("page/", views.page),
    path("private/", views.private),
    path("upload/", views.upload),
]
