"""A worker that starts waits for the answers of the others, and no longer.

Celery's mingle asks all workers what is revoked, and listens for a whole second, however soon they
have all answered: in a deploy a second in which nothing happens. On Redis (and all that kombu calls
virtual) the broker knows who listens. Where one of them is dead, the second passes as ever.
(celery/worker/consumer/mingle.py, 5.7)
"""

from typing import Any

from celery.worker.consumer.mingle import Mingle

from celeriac.broker import listening
from celeriac.extension import ConsumerExtension

SECONDS = 1.0  # Celery's own


class FastMingle(ConsumerExtension):
    """Takes the place of what `Mingle` asks with."""

    requires = (Mingle,)  # so that it is there

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        mingle = consumer.blueprint.steps[Mingle.name]
        mingle.send_hello = self.send_hello

    def send_hello(self, consumer: Any) -> dict[str, Any]:
        """Return what the other workers answer, by their names."""
        others = _others(consumer)
        if others == 0:
            return {}
        inspect = consumer.app.control.inspect(timeout=SECONDS, limit=others, connection=consumer.connection)
        replies: dict[str, Any] = inspect.hello(consumer.hostname, list(consumer.controller.state.revoked))
        return {name: reply for name, reply in (replies or {}).items() if name != consumer.hostname}


def _others(consumer: Any) -> int | None:
    """Return how many others listen for commands, None where the broker does not tell."""
    everybody = listening(consumer.app, consumer.connection)
    if everybody is None:
        return None
    own = f"{consumer.hostname}.{consumer.app.control.mailbox.namespace}.pidbox"
    return len(everybody - {own})
