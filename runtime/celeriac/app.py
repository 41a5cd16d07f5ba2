"""What ``celery -A celeriac.app worker|beat|inspect|events …`` loads."""

from celeriac.adopt import RETRIES_IN_WORKER, adopt
from celeriac.project import celery_app

app = adopt(celery_app(), result_retries=RETRIES_IN_WORKER)
