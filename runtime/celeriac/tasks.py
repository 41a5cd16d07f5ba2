"""The task that proves the way from a web process through the broker to a worker, and back.

The worker answers over the broker alone: a project need not keep results, nor have a place for them.
Whoever knows the id of a ping may read its answer, as often as it likes, for a minute.
"""

from typing import Any, TypedDict, cast

from celery import Task, shared_task
from kombu import Connection, Queue
from kombu.utils.json import dumps, loads

from celeriac.broker import NOT_FOUND, channel_for_one_question, connect
from celeriac.project import release

PING = "celeriac.ping"
# Nobody watches a ping longer: then it is dropped instead of executed, and so is an answer.
WATCHED_SECONDS = 60


class Pong(TypedDict):
    """The answer to a ping: who executed it."""

    release: str
    hostname: str


# Nobody needs it in the journal.
@shared_task(
    name=PING, bind=True, ignore_result=True, expires=WATCHED_SECONDS, max_retries=0,
    time_limit=10, soft_time_limit=9, ledger=False,
)  # fmt: skip
def ping(self: "Task[[], None]") -> None:
    """Answer with the release and the node name of the worker."""
    with connect(self.app) as broker:
        _answer(broker, str(self.request.id), {"release": release(), "hostname": str(self.request.hostname)})


def pong(broker: Connection, ping_id: str) -> Pong | None:
    """Return the answer to a ping, None as long as there is none.

    Args:
        broker: a connection to it, as the worker's.
        ping_id: the id of the task.
    """
    with channel_for_one_question(broker) as channel:
        if broker.transport.driver_type == "redis":
            with channel.conn_or_acquire() as redis:
                found = redis.get(_place(ping_id))
            return cast(Pong, loads(found)) if found else None
        try:
            message: Any = _queue(ping_id)(channel).get(accept=["json"])
        except broker.channel_errors as error:
            if str(getattr(error, "reply_code", "")) != NOT_FOUND:
                raise
            return None
        # It is not acknowledged: with the end of the channel it is back, for the next who asks.
        return cast(Pong, message.payload) if message else None


def _answer(broker: Connection, ping_id: str, answer: Pong) -> None:
    if broker.transport.driver_type == "redis":
        with cast(Any, broker.default_channel).conn_or_acquire() as redis:
            redis.set(_place(ping_id), dumps(answer), ex=WATCHED_SECONDS)
        return
    queue = _queue(ping_id)
    with broker.Producer() as producer:
        producer.publish(answer, serializer="json", exchange="", routing_key=queue.name, declare=[queue])


def _place(ping_id: str) -> str:
    return f"celeriac.pong.{ping_id}"


def _queue(ping_id: str) -> Queue:
    """Return the queue that holds the answer; it goes when nobody has asked for so long.

    Of the kind that a message may be given back to without end, and durable: RabbitMQ 4 wants the others no more.
    """
    return Queue(_place(ping_id), expires=WATCHED_SECONDS, queue_arguments={"x-queue-type": "classic"})
