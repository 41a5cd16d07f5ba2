"""What ``celery -A celeriac.app worker|beat|inspect|events|call …`` loads."""

import django
from django.apps import apps

from celeriac.configure import RETRIES_IN_WORKER, configure
from celeriac.internals import before_backend, serialize_calls
from celeriac.project import celery_app
from celeriac.worker.extensions import install


def _set_up_django() -> None:
    if not apps.ready:
        django.setup()


app = configure(celery_app(), result_retries=RETRIES_IN_WORKER)
install(app)
# Celery does it for worker and beat alone: `call` and `result` found no backend that keeps results in a model. Those
# that need none, `inspect` and its like, need not wait for it.
before_backend(app, _set_up_django)
serialize_calls(lambda: app.conf.task_serializer)
