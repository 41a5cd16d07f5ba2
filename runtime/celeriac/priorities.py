"""One scale of priorities for everybody who sends a task: 0 to 9, and 9 is first.

RabbitMQ has it so. kombu's Redis transport has a list for each priority and takes from the lists in the order of
`priority_steps`, which it expects to rise: there 0 would be first. It only *walks* through the steps in that order,
and looks a priority up by bisection; so steps that rise, and are walked through backwards, turn the scale round for
workers, and nothing has to be converted where a task is sent, sent again after a failure, or shown.
(`Channel._brpop_start`, `_get` and `priority` in kombu/transport/redis.py, 5.7)
"""

from collections.abc import Iterator

LOWEST, DEFAULT, HIGHEST = 0, 5, 9


class HighestFirst(tuple[int, ...]):
    """The steps of a Redis broker: looked up as they are, walked through from the highest down."""

    __slots__ = ()

    def __iter__(self) -> Iterator[int]:
        """Go through the steps, the highest first."""
        return reversed(self)


# A Redis list for each priority: with fewer, some of the ten would be the same.
REDIS_STEPS = HighestFirst(range(LOWEST, HIGHEST + 1))
