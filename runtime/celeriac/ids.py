"""Refuses to send a task under an id that is too long to be stored.

The tables of results and of the journal have room for 255 signs. A longer one is executed, and then
nothing of it can be written: neither its state nor its result, and whoever sent it waits for ever.
"""

from typing import Any

from celery.app.amqp import AMQP

_LONGEST = "_celeriac_longest_id"


def refuse_longer_than(signs: int) -> None:
    """Have every sender of this process raise a ValueError instead of sending what has a longer id.

    Celery logs what a handler of `before_task_publish` raises, and sends all the same: so this is
    around its sender (celery/app/amqp.py, 5.7).

    Args:
        signs: that the shortest column has; the smallest of several calls holds.
    """
    amqp: Any = AMQP
    longest = getattr(amqp, _LONGEST, None)
    setattr(amqp, _LONGEST, signs if longest is None else min(signs, longest))
    if longest is None:
        amqp._create_task_sender = _refusing(amqp._create_task_sender)


def _refusing(create: Any) -> Any:
    """Return `AMQP._create_task_sender` with senders that look at the id first."""

    def create_task_sender(amqp: Any) -> Any:
        send = create(amqp)

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            longest, signs = getattr(AMQP, _LONGEST), len(message.headers.get("id") or "")
            if signs > longest:
                raise ValueError(f"{name} is not sent: its id has {signs} signs, {longest} at most")
            return send(producer, name, message, **options)

        return send_task_message

    return create_task_sender
