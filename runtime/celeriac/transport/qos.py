"""What a channel was given and has not acknowledged.

Source: kombu/transport/redis.py, 5.4 to 5.7.
"""

from typing import Any

from kombu.transport import redis as stock
from kombu.transport import virtual

# Messages of nobody that are requeued at once.
ORPHANS = 100


class QoS(stock.QoS):
    """What a channel was given and has not acknowledged.

    What this process holds is its own whatever becomes of the connection (`Holder`).
    """

    def append(self, message: Any, delivery_tag: str) -> None:
        """Keep a message; the script has noted it already."""
        if delivery_tag in self.channel.holder.taken:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, with the next turn if one comes soon."""
        holder = self.channel.holder
        if delivery_tag in holder.given_up:
            virtual.QoS.ack(self, delivery_tag)
            return
        name = holder.taken.pop(delivery_tag, None)
        if name is None:
            super().ack(delivery_tag)
            return
        holder.unfinished.pop(delivery_tag, None)
        holder.acks[delivery_tag] = name
        virtual.QoS.ack(self, delivery_tag)
        if not self.channel.is_turning():
            self.channel.send_acks()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Acknowledge a message, or put it behind the others."""
        holder = self.channel.holder
        if not requeue:
            self.ack(delivery_tag)
        elif delivery_tag in holder.taken or delivery_tag in holder.given_up:
            self.restore_by_tag(delivery_tag, leftmost=True)
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().reject(delivery_tag, requeue)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Requeue a message."""
        holder = self.channel.holder
        if tag in holder.taken:
            reason = holder.unfinished.pop(tag, "")
            self.channel.recovery.requeue_own([tag], reason=reason, last=leftmost)
        elif tag not in holder.given_up:
            super().restore_by_tag(tag, client, leftmost)

    def restore_unacked(self, client: Any = None) -> None:
        """Requeue everything: the channel is closed."""
        self._flush()
        holder = self.channel.holder
        tags = [tag for tag in self._delivered if tag in holder.taken]
        others = [tag for tag in self._delivered if tag not in holder.taken]
        self._delivered.clear()
        self.channel.recovery.requeue_own(tags)
        for tag in others:
            self.restore_by_tag(tag)

    def restore_visible(self, start: int = 0, num: int | None = 10, interval: int = 10) -> None:
        """Requeue what is old, and nobody's: it was a worker's that has no lease."""
        channel = self.channel
        channel.scan()
        if channel.may_restore(self.visibility_timeout, interval):
            for tag in channel.recovery.orphans(self.visibility_timeout, num or ORPHANS):
                super().restore_by_tag(tag)
