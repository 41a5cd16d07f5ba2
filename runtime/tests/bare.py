"""A Celery app with nothing of ours but the transport: for versions that the rest does not know."""

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from celery import Celery

from celeriac import transport
from celeriac.extension import install
from celeriac.worker import deliveries

transport.install()

app = Celery("bare", broker=os.environ["BROKER_URL"])
app.config_from_object(
    SimpleNamespace(
        broker_connection_retry_on_startup=True,
        broker_transport_options={"deliveries": 2},
        task_acks_late=True,
        task_ignore_result=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=2,
    )
)
install(app, [deliveries.Deliveries])


def _record(word: str, name: str) -> None:
    with Path(os.environ["RECORD"]).open("a") as record:
        record.write(f"{word} {name}\n")


@app.task(name="bare.wait")
def wait(name: str) -> None:
    """Run until there is a file of this name."""
    _record("began", name)
    while not (Path(os.environ["SCRATCH"]) / name).exists():
        time.sleep(0.1)
    _record("ended", name)


@app.task(name="bare.die", bind=True)
def die(self: Any, name: str) -> None:
    """End the process that runs this."""
    _record("began", name)
    os._exit(1)
