"""The part of the bundle that runs inside the processes of a deployed Django + Celery project.

The project neither imports this package nor knows it. Who starts what:

* ``celery -A celeriac.app …``: the project's own Celery app, with our parts added.
* ``celery … beat -S celeriac.beat:DatabaseScheduler``: beat that tells systemd how it is.
* ``celery -A celeriac.monitor flower``: Flower, on the socket that systemd keeps for it.
* ``gunicorn celeriac.wsgi:application``: the project's own WSGI application, wrapped.
* ``python -m celeriac.prepare STEP…``: what a release goes through before it serves.

Every one of them learns from the environment what to run; see `celeriac.project`.
"""
