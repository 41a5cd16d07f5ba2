"""What ``celery -A celeriac.app worker|beat|inspect|events …`` loads."""

from celeriac.configure import RETRIES_IN_WORKER, configure
from celeriac.project import celery_app
from celeriac.worker.extensions import install

app = configure(celery_app(), result_retries=RETRIES_IN_WORKER)
install(app)
