"""Refuses to send a task under an id that is too long to be stored.

The tables of results and of the journal have room for 255 signs. A longer one is executed, and then
nothing of it can be written: neither its state nor its result, and whoever sent it waits for ever.
"""

from typing import Any

from celeriac.internals import Sender, wrap_sender

_longest: int | None = None


def refuse_longer_than(signs: int) -> None:
    """Have every sender of this process raise a ValueError instead of sending what has a longer id.

    Args:
        signs: that the shortest column has; the smallest of several calls holds.
    """
    global _longest
    if _longest is None:
        wrap_sender(_refusing)
    _longest = signs if _longest is None else min(signs, _longest)


def _refusing(send: Sender) -> Sender:
    """Return a sender that looks at the id first."""

    def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
        signs = len(message.headers.get("id") or "")
        if _longest is not None and signs > _longest:
            raise ValueError(f"{name} is not sent: its id has {signs} signs, {_longest} at most")
        return send(producer, name, message, **options)

    return send_task_message
