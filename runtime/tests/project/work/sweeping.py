"""A sweep outside of any worker."""

from celery import current_app

from celeriac.ledger.sweep import Sweep


def look() -> list[str]:
    """Have a look, without asking whether somebody else has one; return what was sent."""
    with current_app.connection_for_write() as connection:
        return Sweep(current_app, connection).look()
