"""A worker forgets results and the admin's log, where they grow without end in the database.

Celery's own ``celery.backend_cleanup`` is sent by beat once a day, knows an age and no number, and
deletes all of it in one statement; Django never deletes from the admin's log. So each worker looks
(`celeriac.pruning`): at the results, where they are in the database (`celeriac.results`), and at
the admin's log, where the project has one (`celeriac.worker.admin_log`).
"""

from typing import Any

from celery import Celery
from django.apps import apps

from celeriac.extension import WorkerExtension
from celeriac.pruning import Job, PruningThread
from celeriac.worker import admin_log


class Pruning(WorkerExtension):
    """Prunes results and the admin's log while a worker runs.

    The first processes of the pool are there before the thread.
    """

    def start(self, worker: Any) -> None:
        """Begin, where there is something to be pruned."""
        if jobs := [*_jobs(worker.app)]:
            PruningThread(*jobs).start()


def _jobs(app: Celery) -> list[Job]:
    jobs = []
    if apps.is_installed("django_celery_results"):
        # It has models, which are there only now, and in a package that a project may be without.
        from celeriac import results

        if isinstance(app.backend, results.DatabaseBackend):
            jobs.append(Job("the results", app.backend.TaskModel, app.backend.cleanup))
    if apps.is_installed("django.contrib.admin"):
        jobs.append(Job("the admin's log", admin_log.model(), admin_log.prune))
    return jobs
