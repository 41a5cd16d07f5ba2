"""What an extension of Celery's worker is made from: a step of one of its two blueprints.

Celery puts steps in an order that their ``requires`` allows, and that is another one in each
process. Whoever has several brings them with `install`, which keeps the order that they are given
in: `start` in this order, `stop` and `shutdown` in the opposite one.
https://docs.celeryq.dev/en/stable/userguide/extending.html
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from celery import Celery, bootsteps


class ConsumerExtension(bootsteps.StartStopStep):
    """Starts with each connection to the broker, when the queues are consumed.

    It stops when the connection is lost, as well as at the end: see `is_over`. `shutdown` is called
    once, when the pool has ended.
    """

    blueprint: ClassVar[str] = "consumer"
    requires: Any = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Take the options that Celery hands over; there are none here."""


class WorkerExtension(bootsteps.StartStopStep):
    """Starts once, with the first processes of the pool, before the consumer does."""

    blueprint: ClassVar[str] = "worker"
    requires: Any = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        """Take the options that Celery hands over; there are none here."""


Extension = type[ConsumerExtension] | type[WorkerExtension]


def is_over(consumer: Any) -> bool:
    """Return whether a consumer that stops does so for good, and has not lost its connection."""
    return bool(consumer.blueprint.state != bootsteps.RUN)


def install(app: Celery, extensions: Iterable[Extension]) -> None:
    """Extend the workers of this app.

    Args:
        app: it is changed in place. Doing it again changes nothing.
        extensions: in the order in which they start.
    """
    before: dict[str, Extension] = {}
    for extension in extensions:
        previous = before.get(extension.blueprint)
        if previous is not None and previous not in extension.requires:
            extension.requires = (*extension.requires, previous)
        before[extension.blueprint] = extension
        app.steps[extension.blueprint].add(extension)
