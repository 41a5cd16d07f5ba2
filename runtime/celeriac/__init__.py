"""The part of the bundle that runs inside the processes of a deployed Django + Celery project.

A project needs to know nothing of it; what it may name are the apps `celeriac.checks`,
`celeriac.console`, `celeriac.ledger` and `celeriac.schedule` in ``INSTALLED_APPS``, what its own
pages show, `celeriac.health` in its addresses, and `celeriac.defaults` in its settings.
Who starts what:

* ``celery -A celeriac.app worker``: the project's own Celery app, with the extensions of
  `celeriac.worker`; any other command of Celery likewise.
* ``celery … beat -S celeriac.beat.scheduler:DatabaseScheduler``: beat that tells how it is.
* ``celery -A celeriac.monitor flower``: Flower, on the socket that systemd keeps for it.
* ``gunicorn celeriac.web.wsgi:application``: the project's own WSGI application, wrapped.
* ``python -m celeriac.release STEP…``: what a release goes through before it serves.

Every one of them learns from the environment what to run; see `celeriac.project`. A folder is a
process, or an app; a file beside them is what several share. Imports go down five floors, and none
goes up: ``molecule/static/tests/test_rooms.py`` draws them.
"""
