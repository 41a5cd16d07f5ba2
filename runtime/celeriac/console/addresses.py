"""The addresses of the console: the pages under the namespace `celeriac`, the API under `celeriac-api`."""

from django.urls import include, path, register_converter

from celeriac.console import views
from celeriac.console.api import api

register_converter(views.TextConverter, "celeriac-text")

# An id is no UUID: whoever sends a task may give it any.
_RUN = "<celeriac-text:run_id>/"

pages = [
    path("", views.run_list, name="runs"),
    path("graphs/", views.graph_page, name="graphs"),
    path("start/", views.choose_task, name="choose-task"),
    path("start/<celeriac-text:name>/", views.start_task, name="start-task"),
    path(f"{_RUN}revoke/", views.revoke, {"terminate": False}, name="revoke"),
    path(f"{_RUN}terminate/", views.revoke, {"terminate": True}, name="terminate"),
    path(f"{_RUN}rerun/", views.rerun, name="rerun"),
    path(f"{_RUN}release/", views.release, name="release"),
    path(_RUN, views.run, name="run"),
]

urlpatterns = [
    path("api/", api.urls),
    path("api/<celeriac-text:address>", views.no_address),  # or it would be the id of a run
    path("", include((pages, "celeriac"))),
]
