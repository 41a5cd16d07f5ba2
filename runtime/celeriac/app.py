"""What ``celery -A celeriac.app worker|beat|inspect|events|call …`` loads."""

import django

from celeriac.configure import RETRIES_IN_WORKER, configure
from celeriac.project import celery_app
from celeriac.worker.extensions import install

app = configure(celery_app(), result_retries=RETRIES_IN_WORKER)
install(app)
# Celery does it for worker and beat alone: `call` and `result` found no result backend that keeps results in a model.
django.setup()
