"""Addresses of the pages."""

from django.urls import path

from work import views

urlpatterns = [path("", views.hello), path("address/", views.address)]
