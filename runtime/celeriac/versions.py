"""What an older library cannot do is off, and has a name: in the log, the status and `docs/versions.md`."""

from importlib.metadata import version
from typing import NamedTuple


class Feature(NamedTuple):
    """Something that is off before a version.

    Attributes:
        name: of it.
        library: that it takes, by the name of its distribution.
        since: the first version that has it.
        instead: what is so without it.
    """

    name: str
    library: str
    since: tuple[int, int]
    instead: str


FEATURES = (
    Feature("soft shutdown", "celery", (5, 5), "what still runs when a drain ends is cancelled at once, and requeued"),
    Feature("use of quorum queues", "celery", (5, 5), "on RabbitMQ a worker consumes from classic queues only"),
    Feature(
        "cluster of RabbitMQ",
        "celery",
        (5, 7),
        "a group `broker` of several hosts is refused",
    ),
    Feature(
        "time limit across a lost connection",
        "celery",
        (5, 6),
        "a task that runs when Redis is lost has no time limit from then on",
    ),
    Feature(
        "limit of held tasks",
        "celery",
        (5, 6),
        "worker_eta_task_limit has no effect: a worker takes and holds every task that waits for its ETA",
    ),
)


def off() -> list[str]:
    """Return what is off with the libraries that are installed, each with what is so instead."""
    return [
        f"{each.name}: {each.library} {version(each.library)} has none, {each.instead}"
        for each in FEATURES
        if not has(each.name)
    ]


def has(name: str) -> bool:
    """Return whether the libraries that are installed have a feature.

    Args:
        name: of it, in `FEATURES`.
    """
    (feature,) = [each for each in FEATURES if each.name == name]
    return _release(version(feature.library)) >= feature.since


def _release(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in text.split(".")[:2])
