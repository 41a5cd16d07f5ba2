"""What a broker says of itself."""

from typing import Any

from kombu import Connection
from redis import Redis
from redis.exceptions import ResponseError

from celeriac import transport


def transport_of(connection: Connection) -> str:
    """Return how the broker is spoken to, in words: by which transport, and why by that.

    Args:
        connection: to the broker.
    """
    if connection.transport.driver_type != "redis":
        return str(connection.transport.driver_type)
    if type(connection.transport).__module__.startswith(transport.__name__):
        return "celeriac"
    return f"stock: {transport.why_not() or 'the project names a transport of its own'}"


def memory(connection: Connection) -> float | None:
    """Return how full the broker is, from 0 to 1; publishers are refused at 1.

    Args:
        connection: to the broker.

    Returns:
        None where it has no limit, or does not tell: RabbitMQ, and a Redis that keeps INFO from us.
    """
    if connection.transport.driver_type != "redis":
        return None
    client: Any = Redis(connection_pool=connection.default_channel.pool)
    try:
        info = client.info("memory")
    except ResponseError:
        return None
    limit = info.get("maxmemory", 0)
    return info["used_memory"] / limit if limit else None
