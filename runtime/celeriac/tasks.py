"""The task that proves the way from a web process through the broker to a worker."""

from typing import TypedDict

from celery import Task, shared_task

from celeriac.project import release

PING = "celeriac.ping"


class Pong(TypedDict):
    """The result of a ping: who executed it."""

    release: str
    hostname: str


# The result is the point of it, so it is stored even where the project ignores results; a ping
# that waited longer than anybody watches is dropped by the worker instead of executed, and nobody
# needs it in the journal.
@shared_task(
    name=PING, bind=True, ignore_result=False, expires=60, max_retries=0,
    time_limit=10, soft_time_limit=9, ledger=False,
)  # fmt: skip
def ping(self: "Task[[], Pong]") -> Pong:
    """Answer with the release and the node name of the worker."""
    return {"release": release(), "hostname": str(self.request.hostname)}
