"""Redis as a broker that loses nothing: a message belongs to a worker that lives, not to a clock.

It takes the place of kombu's transport for ``redis://``, ``rediss://``, ``sentinel://`` and Redis
on a unix socket. All that lies in Redis is as kombu has it: workers with kombu's own transport,
Flower and tools share the queues. It is made of subclasses of kombu's, and so it touches kombu's
private parts itself; for all else there is `celeriac.internals`. It knows nothing of Celery's
worker, which is told and tells by `celeriac.worker.deliveries`.

======================  ===========================================================================
`~.transports`          what takes the place of kombu's, and the event loop that carries it
`~.channel`             takes a message and notes who has it in one step
`~.waking`              when it asks: it is told that there is something
`~.poller`, `~.qos`     kombu's, for such channels
`~.full`                what passes although Redis is full
`~.holder`              this process as one that has messages, as long as its lease lasts
`~.identity`            which process that is, and whether another is dead
`~.recovery`            what did not end is requeued, counted
`~.parking`             what did not end too often is parked, until somebody releases it
`~.scripts`, ``lua/``   what is one step in Redis
======================  ===========================================================================

==============================  ===================================================================
key in Redis                    what it holds
==============================  ===================================================================
``unacked, unacked_index``      kombu's: what was taken and not acknowledged, and when
``celeriac.lease.<holder>``     runs out when the holder does not renew it
``celeriac.holders``            hash: which process a holder is
``celeriac.held.<holder>``      hash: for each message it holds, by its tag: "number mark list"
``celeriac.poison``             hash: what is parked
==============================  ===================================================================
"""

import os

import kombu
from kombu import Connection, transport

# The versions whose private parts `channel` was tried with.
OLDEST, NEWEST = (5, 4), (5, 7)

# What decides, in the environment: ``stock`` leaves kombu's own in place.
CHOICE = "CELERIAC_REDIS_TRANSPORT"

_SCHEMES = {"redis": "Transport", "rediss": "Transport", "sentinel": "SentinelTransport"}


def install() -> None:
    """Let all connections of this process that come later use it, if it can be used."""
    if why_not() is None:
        for scheme, name in _SCHEMES.items():
            transport.TRANSPORT_ALIASES[scheme] = f"{__name__}.transports:{name}"
            transport._transport_cache.pop(scheme, None)


def why_not() -> str | None:
    """Return why kombu's own transport is used, None if ours is."""
    choice = os.environ.get(CHOICE, "")
    if choice == "stock":
        return f"{CHOICE}=stock"
    version = tuple(kombu.VERSION[:2])
    if not OLDEST <= version <= NEWEST:
        return f"kombu {kombu.__version__} is not one of those it was tried with"
    return None


def transport_of(connection: Connection) -> str:
    """Return how the broker is spoken to, in words: by which transport, and why by that.

    Args:
        connection: to the broker.
    """
    if connection.transport.driver_type != "redis":
        return str(connection.transport.driver_type)
    if type(connection.transport).__module__.startswith(__name__):
        return "celeriac"
    return f"stock: {why_not() or 'the project names a transport of its own'}"
