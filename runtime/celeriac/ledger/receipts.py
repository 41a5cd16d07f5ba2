"""What Redis keeps of an acknowledgement until the database knows of it.

A worker tells the database what has ended a moment later, and many at a time
(`celeriac.ledger.marks`). If it is killed in that moment, the message is gone, and nobody would
know that the task was executed. So the acknowledgement itself leaves a receipt: one more command in
the transaction by which kombu takes the message out of ``unacked``, and no other round trip. The
sweep reads them, closes what is still open, and throws them away.
"""

import time
from typing import Any

from celeriac.ledger.rule import Receipt

# A sorted set of "ID RETRIES KIND", by the time in seconds.
RECEIPTS = "celeriac.receipts"
# One whose row is not there is kept for so long: a transaction may not be committed yet.
PATIENCE_SECONDS = 3600.0


def leave(message: Any, task_id: str, retries: int, kind: Receipt) -> None:
    """Have a receipt left when this message is acknowledged, or rejected for good.

    Args:
        message: a received kombu message; on other brokers than Redis nothing happens.
        task_id: of the task in it.
        retries: its attempt.
        kind: what the acknowledgement means.
    """
    qos: Any = getattr(message.channel, "qos", None)
    if not hasattr(qos, "_remove_from_indices"):
        return
    if not hasattr(qos, "celeriac_receipts"):
        _prepare(qos)
    qos.celeriac_receipts[message.delivery_tag] = f"{task_id} {retries} {kind.value}"


def read(member: bytes) -> tuple[str, int, Receipt]:
    """Return task id, retries and kind of a receipt."""
    task_id, retries, kind = member.decode().rsplit(" ", 2)
    return task_id, int(retries), Receipt(kind)


def _prepare(qos: Any) -> None:
    """Add the receipt to the transaction in which this QoS forgets a message (kombu 5.7)."""
    forget = qos._remove_from_indices
    qos.celeriac_receipts = {}

    def remove_from_indices(tag: str, pipe: Any = None) -> Any:
        pipe = forget(tag, pipe)
        receipt = qos.celeriac_receipts.pop(tag, None)
        return pipe if receipt is None else pipe.zadd(RECEIPTS, {receipt: time.time()})

    qos._remove_from_indices = remove_from_indices
