"""A worker whose event loop sleeps until something comes: no timer of its own wakes it."""

from typing import Any

from kombu.asynchronous.hub import Hub

_fire_timers = Hub.fire_timers


def _fire_and_sleep(self: Hub, **options: Any) -> float:
    _fire_timers(self, **options)
    return 3600


Hub.fire_timers = _fire_and_sleep
